#!/usr/bin/env python3
"""Races cnnkit against PyTorch, ONNX Runtime and OpenVINO. race.sh says how, and what the variables are."""
import argparse
import ctypes.util
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile

from contest import Failed, Side, contest, faster, run
from families import FAMILIES
from table import number, print_table, spread

HERE = os.path.dirname(os.path.abspath(__file__))
# The arguments of `cnnkit build` that make each case's network.
CASES = {
    'lenet5-28': 'lenet5 --input 1x28x28', 'lenet5-32': 'lenet5 --input 3x32x32',
    'minivgg-28': 'minivgg --input 1x28x28', 'minivgg-32': 'minivgg --input 3x32x32',
    'resnet-cifar': 'resnet', 'unet-128': 'unet --input 3x128x128',
    'resnet18-224': 'resnet18 --input 3x224x224 --classes 1000', 'vgg16-224': 'vgg16 --input 3x224x224 --classes 1000',
}
SETS = ['reference', 'families']
PRECISIONS = ['float32', 'bf16', 'int8']
EAGER = ['eager-nchw-fused', 'eager-nhwc-fused', 'eager-nhwc-foreach']
# How PyTorch may infer in bf16: under autocast, or with the network in bf16; both with memory channels_last.
VARIANTS = {'torch': ['autocast', 'bfloat16']}
WINDOWS = 3


def arguments():
    env = os.environ.get
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('modes', nargs='*', help='train, infer, ort, start, mnist (default: train and infer)')
    p.add_argument('--cnnkit', required=True, help='the binary')
    p.add_argument('--set', choices=SETS, default=env('SET') or SETS[0], help='of networks: what cnnkit builds, or exports of torchvision')
    p.add_argument('--precision', choices=PRECISIONS, default=env('PRECISION') or PRECISIONS[0],
                   help='of all sides, in train and infer: bf16 is autocast in PyTorch, ONNX Runtime has none; int8, in infer alone, are files '
                        'that ONNX Runtime quantized. cnnkit in float32 races along with either')
    p.add_argument('--exports', default=env('EXPORTS'), help='a folder that keeps the exports of the families')
    p.add_argument('--cases', default=env('CASES'), help='default: all of the set')
    p.add_argument('--threads', default=env('THREADS') or '1,2')
    p.add_argument('--batch', default=env('BATCH') or '1,32', help='of inference')
    p.add_argument('--rounds', type=int, default=env('ROUNDS') or 5)
    p.add_argument('--seconds', type=float, default=3, help='to measure a process for')
    p.add_argument('--epochs', type=int, default=env('EPOCHS') or 5, help='of mnist')
    args = p.parse_args()
    args.modes = args.modes or ['train', 'infer']
    known = list(CASES if args.set == 'reference' else FAMILIES)
    args.cases = [c for c in (args.cases or '').split(',') if c] or known
    args.threads = [int(n) for n in args.threads.split(',')]
    args.batch = [int(n) for n in args.batch.split(',')]
    for mode in args.modes:
        if mode not in MODULES:
            p.error(f'no mode {mode}: {", ".join(MODULES)}')
        if args.precision != PRECISIONS[0] and mode not in ('train', 'infer'):
            p.error(f'{mode} is raced in {PRECISIONS[0]} alone')
        if args.precision == 'int8' and mode == 'train':
            p.error('int8 is raced in infer alone')
    for case in args.cases:
        if case not in known:
            p.error(f'no case {case}: {", ".join(known)}')
    return args


def allocator(preload=True):
    """What is preloaded into the peers, and its environment."""
    asked = os.environ.get('ALLOCATOR', '')
    if preload and asked != 'glibc':
        for name in [asked] if asked else ['tcmalloc', 'tcmalloc_minimal', 'jemalloc']:
            library = name if '/' in name else ctypes.util.find_library(name)
            if library:
                return library, {'LD_PRELOAD': library}
        if asked:
            sys.exit(f'ALLOCATOR={asked} is not to be found')
    # Without: glibc keeps what it has, as the others do; by default it gives pages back after every step.
    return 'glibc, keeping its heap', {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': str(1 << 40), 'MALLOC_TOP_PAD_': str(64 << 20)}


def peer_env(threads, preload=True):
    env = {k: v for k, v in os.environ.items() if not k.startswith(('OMP_', 'OPENBLAS_', 'MKL_', 'KMP_', 'GOMP_'))}
    env.update(allocator(preload)[1], OMP_NUM_THREADS=str(threads))
    return env


class Race:
    def __init__(self, args, folder, log):
        self.args, self.folder, self.log = args, folder, log
        self.flags = ['--windows', str(WINDOWS), '--seconds', str(args.seconds / WINDOWS)]
        # The precision of int8 is its file's.
        self.precision = ['--precision', args.precision if args.precision == 'bf16' else PRECISIONS[0]]
        self.versions = {}
        self.busy = []  # what the tables' last column says

    def bench(self, threads, *rest, label='cnnkit', env=None):
        winograd = ['--no-winograd'] if os.environ.get('NO_WINOGRAD') else []
        return Side(label, {'': [self.args.cnnkit, 'bench', *rest, '--threads', str(threads), *self.flags, *winograd, '--json']}, env)

    def peer(self, label, threads, commands):
        env = peer_env(threads, preload=label != 'OpenVINO')  # which frees in its libraries what others allocated: it crashes
        return Side(label, {v: [sys.executable, *c, '--threads', str(threads), *self.flags] for v, c in commands.items()}, env)

    def model(self, case):
        """The path of the case's file: built by cnnkit, or exported by families.py."""
        if self.args.set == 'reference':
            path = f'{self.folder}/{case}.onnx'
            run([self.args.cnnkit, 'build', *CASES[case].split(), '--out', path])
            return path
        folder = self.args.exports or self.folder
        run([sys.executable, f'{HERE}/families.py', folder, case])
        return f'{folder}/{case}.onnx'

    def made(self, mode, case):
        """The path of the case's file, or None where it could not be made."""
        try:
            return self.model(case)
        except Failed as e:
            print(f'{mode} {case}: left out: {e}', file=sys.stderr)
            return None

    def drop(self, path):
        """Removes a case's file that nobody asked to keep."""
        if path.startswith(self.folder):
            os.remove(path)

    def train(self):
        for case in self.args.cases:
            family = FAMILIES[case] if self.args.set == 'families' else None
            if family is None:
                flags, path = ['--cases', case], ''
            elif not family.batch:
                continue
            else:
                path = self.made('train', f'{case}-train')
                flags = ['--model', path, '--batch', str(family.batch), '--optimizer', family.optimiser]
            if path is None:
                continue
            variants = list(EAGER)
            if os.environ.get('COMPILE') and case.startswith('resnet'):
                variants.append('compile-nchw-fused')
            for threads in self.args.threads:
                peers = [self.peer('PyTorch', threads, {v: [f'{HERE}/peer_torch.py', case, '--variant', v, *self.precision] for v in variants})]
                if self.args.precision != PRECISIONS[0]:
                    peers.append(self.bench(threads, 'train', *flags, label='cnnkit float32'))
                yield from self.contest('train', case, threads, self.bench(threads, 'train', *flags, *self.precision), peers)
            self.drop(path)

    def infer(self):
        engines = {'float32': [('ONNX Runtime', 'ort'), ('OpenVINO', 'openvino')],
                   'bf16': [('OpenVINO', 'openvino'), ('PyTorch', 'torch')],
                   'int8': [('ONNX Runtime', 'ort'), ('OpenVINO', 'openvino')]}
        return self.inference('infer', 'native', engines[self.args.precision])

    def ort(self):
        """ONNX Runtime through the package runtime/ort against ONNX Runtime through its Python package, both with the peers' allocator."""
        return self.inference('ort', 'ort', [('ONNX Runtime', 'ort')])

    def inference(self, mode, own, engines):
        for case in self.args.cases:
            plain = self.made(mode, case)
            if plain is None:
                continue
            model = plain
            if self.args.precision == 'int8':
                model = f'{self.folder}/{case}-int8.onnx'
                run([sys.executable, f'{HERE}/quantize.py', plain, model])
            for batch in self.args.batch:
                for threads in self.args.threads:
                    given = ['infer', '--batch', str(batch)]
                    ours = self.bench(threads, *given, '--model', model, '--engine', own, *self.precision,
                                      env=peer_env(threads) if own == 'ort' else None)
                    peers = [self.peer(label, threads, {v: [f'{HERE}/peer_infer.py', model, '--engine', engine, '--case', case,
                                                            '--batch', str(batch), *self.precision, '--variant', v] for v in VARIANTS.get(engine, [''])})
                             for label, engine in engines]
                    if self.args.precision != PRECISIONS[0]:
                        peers.append(self.bench(threads, *given, '--model', plain, label='cnnkit float32'))
                    yield from self.contest(mode, case, threads, ours, peers)
            if model != plain:
                self.drop(model)
            self.drop(plain)

    def start(self):
        """Opening a file and its first answer, batch 1: in a process that has done nothing else, and again within one process."""
        for case in self.args.cases:
            model = self.made('start', case)
            if model is None:
                continue
            for threads in self.args.threads:
                for kind, starts in ('process', '1'), ('session', '7'):
                    flags = ['--threads', str(threads), '--starts', starts]
                    ours = Side('cnnkit', {'': [self.args.cnnkit, 'bench', 'start', '--model', model, *flags, '--json']})
                    peer = Side('ONNX Runtime', {'': [sys.executable, f'{HERE}/peer_start.py', model, *flags]}, peer_env(threads))
                    yield from self.contest('start', f'{case}, {kind}', threads, ours, [peer])
            self.drop(model)

    def contest(self, mode, case, threads, ours, peers):
        """The rows of the table for one case."""
        print(f'{mode} {case}, threads {threads}', file=sys.stderr)
        try:
            results = contest(ours, peers, self.args.rounds, lambda row: self.log(dict(row, case=case)))
        except Failed as e:
            print(f'{mode} {case}: left out: {e}', file=sys.stderr)
            return
        key = 'images_per_s' if mode == 'train' else 'ms'
        for label, variant, mine, its in results:
            if 'version' in its[0]:
                self.versions[label] = its[0]['version']
            if 'level' in mine[0]:
                self.versions['cnnkit'] = f"kernels {mine[0]['level']}, Winograd {'allowed' if mine[0]['winograd'] else 'off'}"
            ratios = [faster(a, b) for a, b in zip(mine, its)]
            medians = [statistics.median(r[key] for r in rows) for rows in (mine, its)]
            ratio = medians[0] / medians[1] if mode == 'train' else medians[1] / medians[0]
            peaks = [max(r['peak_rss_mb'] for r in rows) for rows in (mine, its)]
            self.busy.append(others([r['others'] for r in mine + its]))
            yield [case, mine[0]['batch'], threads, spread([r[key] for r in mine]), f'{label} {variant}'.strip(),
                   spread([r[key] for r in its]), f'{ratio:.2f}', f'{min(ratios):.2f}-{max(ratios):.2f}',
                   *map(number, peaks), self.busy[-1]]

    def mnist(self):
        """The README's command, from the start of the process to the saved file."""
        data = os.path.join(HERE, '../../train/data/mnist/files')
        for threads in self.args.threads:
            ours, peer = [], []
            for seed in range(self.args.rounds):
                print(f'mnist, threads {threads}, round {seed + 1}', file=sys.stderr)
                flags = ['--epochs', str(self.args.epochs), '--seed', str(seed), '--threads', str(threads)]
                p = run([self.args.cnnkit, 'train', 'lenet5', '--data', 'mnist', *flags, '--json', '--out', f'{self.folder}/ours'])
                epochs = [json.loads(line) for line in p.output.splitlines()]
                ours.append(self.whole(p, seed, threads, 'native', accuracy=epochs[self.args.epochs - 1]['validation_accuracy']))
                p = run([sys.executable, f'{HERE}/peer_mnist.py', '--data', data, *flags, '--out', f'{self.folder}/peer.pt'], peer_env(threads))
                peer.append(self.whole(p, seed, threads, 'torch', **json.loads(p.output.splitlines()[-1])))
            self.versions['PyTorch'] = peer[0]['version']
            self.busy.append(others([r['others'] for r in ours + peer]))
            column = lambda rows, key: [r[key] for r in rows]  # noqa: E731
            mine, its = column(ours, 'seconds'), column(peer, 'seconds')
            ratios = [b / a for a, b in zip(mine, its)]
            yield [threads, spread(mine), spread(its), spread(column(peer, 'without_start')),
                   f'{statistics.median(its) / statistics.median(mine):.2f}', f'{min(ratios):.2f}-{max(ratios):.2f}',
                   *(spread([100 * v for v in column(rows, 'accuracy')], '{:.2f}'.format) for rows in (ours, peer)),
                   *(number(max(column(rows, 'peak_rss_mb'))) for rows in (ours, peer)), self.busy[-1]]

    def whole(self, p, seed, threads, engine, **more):
        """The row of a whole process, logged."""
        row = dict(what='mnist', case='lenet5-28', seed=seed, threads=threads, engine=engine, epochs=self.args.epochs,
                   seconds=p.seconds, peak_rss_mb=p.peak_mb, others=p.others, **more)
        self.log(row)
        return row


def others(values):
    """The median number of processors that other processes kept busy."""
    known = [v for v in values if v is not None]
    return f'{statistics.median(known):.1f}' if known else '?'


def headers(mode, epochs, precision):
    if mode == 'mnist':
        return (f'LeNet-5 on MNIST, epochs: {epochs}, whole process to the saved file, seconds; ratio above 1: cnnkit is faster',
                ['threads', 'cnnkit', 'PyTorch', 'without its start', 'ratio', 'by round', 'accuracy % cnnkit', 'PyTorch', 'peak MB cnnkit', 'PyTorch', 'others'])
    unit = 'images/s' if mode == 'train' else 'ms'
    title = {'train': 'Training', 'infer': 'Inference', 'start': 'From the file to the first answer', 'ort': 'ONNX Runtime through cnnkit and through Python'}[mode]
    if precision != PRECISIONS[0]:
        title += f' in {precision}'
    return (f'{title}, {unit}: median (min-max) of the rounds; ratio above 1: cnnkit is faster',
            ['case', 'batch', 'threads', f'cnnkit {unit}', 'peer', f'peer {unit}', 'ratio', 'by round', 'peak MB cnnkit', 'peer', 'others'])


def processor():
    try:
        with open('/proc/cpuinfo') as f:
            info = dict(line.split(':', 1) for line in f if line.startswith(('model name', 'flags')))
        name = {k.strip(): v.strip() for k, v in info.items()}
        return name['model name'] + (' with AVX-512' if 'avx512f' in name['flags'].split() else '')
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


# What PYTHON needs in each mode.
MODULES = {'train': ['torch', 'torchvision'], 'infer': ['numpy', 'onnxruntime', 'openvino'], 'ort': ['numpy', 'onnxruntime'],
           'start': ['numpy', 'onnxruntime'],
           'mnist': ['torch']}


def main():
    args = arguments()
    missing = {m for mode in args.modes for m in MODULES[mode] if importlib.util.find_spec(m) is None}
    if missing:
        sys.exit(f'{sys.executable} has no {", ".join(sorted(missing))}: set PYTHON, as testdata/race/race.sh says')
    path = os.environ.get('JSON', '')
    lines = open(path, 'a') if path else None

    def log(row):
        if lines:
            print(json.dumps(row), file=lines, flush=True)

    print(f'{processor()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before; {args.rounds} rounds; '
          f'allocator of the peers: {allocator()[0]}')
    with tempfile.TemporaryDirectory() as folder:
        race = Race(args, folder, log)
        for mode in args.modes:
            rows, stopped = [], None
            try:
                for row in getattr(race, mode)():
                    rows.append(row)
                    print('  ' + '  '.join(map(str, row)), file=sys.stderr)
            except (KeyboardInterrupt, Failed) as e:  # what is done is worth a table
                stopped = e
            print_table(*headers(mode, args.epochs, args.precision), rows)
            if stopped is not None:
                sys.exit(f'stopped: {stopped}' if str(stopped) else 'interrupted')
        print('\nothers: processors that other processes kept busy meanwhile, the median.', end='')
        if any(b != '?' and float(b) >= 0.2 for b in race.busy):
            print(' This machine was not idle: engines that spin while\nthey wait for each other (PyTorch above all, on all threads) lose most by that. The ratios are not to be quoted.', end='')
        print('\n' + '; '.join(f'{k} {v}' for k, v in race.versions.items()))


main()
