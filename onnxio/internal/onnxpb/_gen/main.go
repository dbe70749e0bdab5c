// Command _gen makes onnx.pb.go of cnnkit/onnx.proto: it parses the .proto itself and calls the generator of
// protoc-gen-go, so that nothing but Go is needed and every machine gives the same file.
package main

import (
	"context"
	"log"
	"os"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const source = "cnnkit/onnx.proto"

func main() {
	log.SetFlags(0)
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{".."}},
		SourceInfoMode: protocompile.SourceInfoStandard, // keeps the comments
	}
	files, err := compiler.Compile(context.Background(), source)
	if err != nil {
		log.Fatal(err)
	}
	plugin, err := protogen.Options{}.New(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{source},
		Parameter:      proto.String("module=github.com/cnnkit/cnnkit/onnxio/internal/onnxpb"),
		ProtoFile:      []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(files[0])},
	})
	if err != nil {
		log.Fatal(err)
	}
	internal_gengo.GenerateFile(plugin, plugin.Files[0])
	resp := plugin.Response()
	if resp.Error != nil {
		log.Fatal(*resp.Error)
	}
	if err := os.WriteFile("../onnx.pb.go", []byte(resp.File[0].GetContent()), 0o644); err != nil {
		log.Fatal(err)
	}
}
