"""Records the highest F1 of each label over all thresholds, by scikit-learn, for train/thresholds_test.go: python thresholds.py

Outputs and labels are metrics.py's. Recorded with scikit-learn 1.9.1.
"""
import json, pathlib
import numpy as np
from sklearn import metrics as m
from losses import uniform

HERE = pathlib.Path(__file__).parent
N, K = 40, 5
y = 4 * uniform(N * K, 11).reshape(N, K)
y[:, 4] = np.round(y[:, 4])  # answers that tie
several = (uniform(N * K, 13).reshape(N, K) + 0.3 * y > 0.3).astype(int)


def best(truth, score):
    precision, recall, _ = m.precision_recall_curve(truth, score)
    return (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()


f1 = [best(several[:, c], y[:, c]) for c in range(K)]
(HERE / 'thresholds.json').write_text(json.dumps({'n': N, 'k': K, 'outputs': y.flatten().tolist(), 'several': several.flatten().tolist(),
    'best_f1': f1, 'f1_at_half': [m.f1_score(several[:, c], y[:, c] > 0) for c in range(K)]}) + '\n')
