"""Records scikit-learn's metrics, for train/metrics_test.go: python metrics.py

Outputs come from uniform(), as in losses.py. Recorded with scikit-learn 1.9.1.
"""
import json, pathlib
import numpy as np
from sklearn import metrics as m
from losses import uniform

HERE = pathlib.Path(__file__).parent
N, K = 40, 5
y = 4 * uniform(N * K, 11).reshape(N, K)
labels = (np.arange(N) * 7 + (uniform(N, 12) > 0.5)).astype(int) % K
several = (uniform(N * K, 13).reshape(N, K) + 0.3 * y > 0.3).astype(int)
values = (y * 0.7 + uniform(N * K, 14).reshape(N, K)).astype(np.float32).astype(np.float64)
taken, p = y.argmax(1), np.exp(y) / np.exp(y).sum(1, keepdims=True)
macro = dict(average='macro', zero_division=0)
(HERE / 'metrics.json').write_text(json.dumps({
    'n': N, 'k': K, 'labels': labels.tolist(), 'several': several.flatten().tolist(), 'values': values.flatten().tolist(),
    'of_labels': {'accuracy': m.accuracy_score(labels, taken), 'precision': m.precision_score(labels, taken, **macro),
                  'recall': m.recall_score(labels, taken, **macro), 'f1': m.f1_score(labels, taken, **macro),
                  'miou': m.jaccard_score(labels, taken, **macro), 'auc': m.roc_auc_score(labels, p, multi_class='ovr'),
                  'top3': m.top_k_accuracy_score(labels, y, k=3)},
    'of_several': {'accuracy': (several == (y > 0)).mean(), 'precision': m.precision_score(several, y > 0, **macro),
                   'recall': m.recall_score(several, y > 0, **macro), 'f1': m.f1_score(several, y > 0, **macro),
                   'miou': m.jaccard_score(several, y > 0, **macro), 'auc': m.roc_auc_score(several, y),
                   'map': m.average_precision_score(several, y)},
    'of_values': {'mae': m.mean_absolute_error(values, y), 'rmse': m.mean_squared_error(values.flatten(), y.flatten()) ** 0.5,
                  'r2': m.r2_score(values, y)},
}) + '\n')
