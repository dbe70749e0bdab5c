"""How the peers of the race are timed: the same way as `cnnkit bench` does it."""
import json
import resource
import statistics
import time


def windows(call, seconds, count, warm=0.7):
    """Seconds a call in each of count windows of about the given length, after a warm-up."""
    call()  # the first may compile
    start, n = time.perf_counter(), 0
    while n < 1 or time.perf_counter() - start < warm or n < 2 and time.perf_counter() - start < 3:
        call()
        n += 1
    n = max(1, round(seconds * n / (time.perf_counter() - start)))
    out = []
    for _ in range(count):
        start = time.perf_counter()
        for _ in range(n):
            call()
        out.append((time.perf_counter() - start) / n)
    return out


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def emit(times, what, batch, **row):
    """Prints a measurement as one line of JSON, in the fields of `cnnkit bench --json`."""
    if what == 'train':
        values, key = sorted(batch / t for t in times), 'images_per_s'
    else:
        values, key = sorted(1e3 * t for t in times), 'ms'
    row = dict(what=what, batch=batch, **row)
    row.update({key: statistics.median(values), 'min': values[0], 'max': values[-1], 'peak_rss_mb': peak_mb()})
    print(json.dumps(row), flush=True)
