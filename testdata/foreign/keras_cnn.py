"""Makes keras-tf2onnx.onnx: a Keras network as tf2onnx writes it, and its answer (pip install tensorflow-cpu tf2onnx).

python keras_cnn.py [DIR] adds the answer to the losses.json that foreign.py wrote.
"""
import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
import tf2onnx

SIDE, CLASSES = 16, 5


def main(folder):
    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    model = tf.keras.Sequential([
        layers.Input((SIDE, SIDE, 3), name="input"),
        layers.Conv2D(8, 3, padding="same", name="c1"), layers.BatchNormalization(name="n1", epsilon=1e-3), layers.ReLU(),
        layers.DepthwiseConv2D(3, padding="same", strides=2, name="d1"), layers.BatchNormalization(name="n2"), layers.ReLU(),
        layers.Conv2D(16, 1, name="c2"), layers.Activation("swish"), layers.GlobalAveragePooling2D(),
        layers.Dense(12, activation="relu", name="f1"), layers.Dense(CLASSES, name="f2")])
    for name in ("n1", "n2"):
        norm = model.get_layer(name)
        n = norm.gamma.shape[0]
        norm.set_weights([np.linspace(0.8, 1.2, n), np.linspace(-0.1, 0.1, n), np.linspace(-0.2, 0.2, n), np.linspace(0.2, 0.6, n)])
    spec = (tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="input"),)
    function = tf.function(lambda x: model(x, training=False), input_signature=spec)
    tf2onnx.convert.from_function(function, input_signature=spec, opset=17, output_path=os.path.join(folder, "keras-tf2onnx.onnx"))
    n = 8 * 3 * SIDE * SIDE
    x = (np.arange(n) * 7919 % 1009 / 1009 - 0.5).astype(np.float32).reshape(8, SIDE, SIDE, 3)
    path = os.path.join(folder, "losses.json")
    said = json.load(open(path)) if os.path.exists(path) else {}
    said["keras-tf2onnx"] = {"answer": [float(v) for v in model(x, training=False).numpy().flatten()], "losses": []}
    with open(path, "w") as f:
        json.dump(said, f, indent=1)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
