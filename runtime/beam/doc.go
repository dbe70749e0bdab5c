// Package beam runs a model on images in an Apache Beam pipeline: on one machine (Prism), or on Flink,
// Spark and Dataflow. It is a module of its own, so that no other program of cnnkit depends on Beam; its
// command is cmd/cnnkit-beam.
//
//	files := cbeam.Read(s, "gs://bucket/images/*.jpg")
//	answers, dead := cbeam.Predict(s, cbeam.Config{Model: "gs://bucket/model.onnx"}, files.Images)
//	cbeam.Write(s, "gs://bucket/out.jsonl", answers)
//	cbeam.Write(s, "gs://bucket/out.dead.jsonl", beam.Flatten(s, files.Dead, dead))
//
// Images are prepared, and answers are read, as the model's specification says (package onnxio/spec), by the
// code that 'cnnkit predict' runs: the same model gives the same answers. A model of another's making gets
// its specification by 'cnnkit spec set', before.
//
// What always holds:
//
//   - each image is in one of the two outputs, and there once, also where a runner runs a bundle again
//   - an image that cannot be read, or that the model cannot run on, is a dead letter with the reason and
//     costs no other image its answer
//   - a model that cannot be opened, or that gives no classes, values or labels of an
//     image, fails the pipeline
//   - the sessions of a process are shared: bundles that run side by side hold the weights once
//
// # Runners
//
// Prism needs nothing, and is the default of the command. It is what the tests run on.
//
// Flink and Spark take jobs by a job server of Beam's, which is a container or a jar of the release that
// go.mod names. With --environment_type LOOPBACK the images are computed in the program that was started, so
// that it can be tried on one machine:
//
//	docker run --net=host apache/beam_flink1.20_job_server:2.77.0
//	cnnkit-beam predict --model m.onnx --input 'images/*.jpg' --output out.jsonl \
//	    --runner flink --endpoint localhost:8099 --environment_type LOOPBACK
//
//	docker run --net=host apache/beam_spark3_job_server:2.77.0
//	cnnkit-beam predict --model m.onnx --input 'images/*.jpg' --output out.jsonl \
//	    --runner spark --endpoint localhost:8099 --environment_type LOOPBACK
//
// The job server starts an embedded Flink or Spark; --flink-master=HOST:8081 or
// --spark-master-url=spark://HOST:7077, given to the server, takes a cluster. On a cluster leave LOOPBACK
// out, and give every worker the files: by a folder that all of them mount, or in a bucket. Dataflow is:
//
//	cnnkit-beam predict --model gs://BUCKET/m.onnx --input 'gs://BUCKET/images/*.jpg' --output gs://BUCKET/out.jsonl \
//	    --runner dataflow --project PROJECT --region REGION --staging_location gs://BUCKET/staging
//
// These three have not been run by the project: its tests have neither Docker nor a cloud.
package beam
