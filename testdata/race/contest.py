"""One contest of the race: cnnkit and its peers take turns, each time as a process of its own."""
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import namedtuple

# A variant of a peer that is this much slower than its best in the first round sits out the others.
HOPELESS = 1.5


class Failed(Exception):
    """A process ended with an error; the text is its last words."""


# others: how many processors other processes kept busy meanwhile, None where that is not known.
Process = namedtuple('Process', 'output seconds peak_mb others')


def busy():
    """Processor seconds that this machine has worked since it started."""
    try:
        with open('/proc/stat') as f:
            user, nice, system, _, _, irq, softirq, steal = map(int, f.readline().split()[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf('SC_CLK_TCK')


def run(command, env=None):
    """Runs a process to its end."""
    with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
        before, began = busy(), time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=env)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds, after = time.perf_counter() - began, busy()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            words = err.read().strip().splitlines() or [f'exit code {process.returncode}']
            raise Failed(words[-1])
        others = None if before is None else max(0, after - before - usage.ru_utime - usage.ru_stime) / seconds
        return Process(out.read(), seconds, usage.ru_maxrss // (1 << 20 if sys.platform == 'darwin' else 1 << 10), others)


def measured(command, env=None):
    """Runs a process whose last line of output is a measurement."""
    p = run(command, env)
    return dict(json.loads(p.output.strip().splitlines()[-1]), others=p.others)


class Side:
    """One who races: a label, the ways to run it (variant -> command), and what was measured."""

    def __init__(self, label, commands, env=None):
        self.label, self.commands, self.env = label, dict(commands), env
        self.rows = {variant: [] for variant in self.commands}
        self.failure = ''

    def turn(self, log):
        for variant, command in list(self.commands.items()):
            try:
                row = measured(command, self.env)
            except Failed as e:
                self.failure = f'{self.label} {variant}'.strip() + f': {e}'
                print('  ' + self.failure, file=sys.stderr)
                del self.commands[variant], self.rows[variant]
                continue
            self.rows[variant].append(row)
            log(row)
        best = self.best()
        if best and len(self.rows[best]) == 1:
            for variant in list(self.commands):
                if faster(self.rows[best][0], self.rows[variant][0]) > HOPELESS:
                    del self.commands[variant]

    def best(self):
        """The variant that was the fastest, of those that ran in every round."""
        rounds = max(map(len, self.rows.values()), default=0)
        whole = [v for v, rows in self.rows.items() if rows and len(rows) == rounds]
        speed = {v: sorted((speed_of(r) for r in self.rows[v]))[rounds // 2] for v in whole}
        return max(speed, key=speed.get, default=None)


def speed_of(row):
    return row['images_per_s'] if 'images_per_s' in row else 1 / row['ms']


def faster(a, b):
    return speed_of(a) / speed_of(b)


def contest(ours, peers, rounds, log):
    """Lets the sides take turns. Gives (peer, variant, our rows, its rows) of every peer that came through."""
    for number in range(rounds):
        for side in [ours, *peers]:
            side.turn(lambda row: log(dict(row, round=number + 1)))
        if not ours.commands:
            raise Failed(ours.failure)
    results = []
    for peer in peers:
        variant = peer.best()
        if variant is not None and len(peer.rows[variant]) == rounds:
            results.append((peer.label, variant, ours.rows[''], peer.rows[variant]))
    return results
