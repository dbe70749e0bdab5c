// Package report shows training runs: as one self-contained HTML page, as JSON lines, as TensorBoard event
// files, and live on localhost.
//
// It knows nothing of training. A Run is plain data: named figures for each epoch, a confusion matrix, images
// as PNG bytes, the configuration as JSON. WriteHTML makes a page of it, WriteLines a line for each epoch,
// Events the files that TensorBoard reads, and a Dashboard serves the page while the run goes on. A Recorder
// does all of that for a folder.
//
// Figures are named as the columns of a history are: train_loss, validation_loss, train_accuracy,
// lr. Figures that differ only in the prefix train_ or validation_ are drawn into one panel.
// Accuracies are shares, 0 to 1.
//
// Names of classes and files are text from outside: pages escape them, and carry a Content-Security-Policy
// that lets nothing run but the page's own script.
package report
