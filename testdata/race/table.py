"""The race's tables, in Markdown."""
import statistics


def number(v):
    """Three or four digits."""
    if v >= 1000:
        return f'{v:,.0f}'
    return f'{v:.4g}' if v >= 100 else f'{v:.3g}'


def spread(values, show=number):
    """Median (smallest-largest)."""
    return f'{show(statistics.median(values))} ({show(min(values))}-{show(max(values))})'


def print_table(title, header, rows):
    print(f'\n{title}\n')
    widths = [max(len(str(r[i])) for r in [header, *rows]) for i in range(len(header))]
    for i, row in enumerate([header, None, *rows]):
        cells = ['-' * w for w in widths] if row is None else [str(c).ljust(w) for c, w in zip(row, widths)]
        print('| ' + ' | '.join(cells) + ' |')
