// Command _gen makes the Go files of ../inference/*.proto: it parses them itself, calls the generator of
// protoc-gen-go, and runs protoc-gen-go-grpc as the plugin that it is, so that nothing but Go is needed.
package main

import (
	"bytes"
	"context"
	"errors"
	"log"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/pluginpb"
)

var sources = []string{"inference/config.proto", "inference/service.proto"}

func main() {
	log.SetFlags(0)
	if err := generate(); err != nil {
		log.Fatal(err)
	}
}

func generate() error {
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{".."}},
		SourceInfoMode: protocompile.SourceInfoStandard, // keeps the comments
	}
	files, err := compiler.Compile(context.Background(), sources...)
	if err != nil {
		return err
	}
	req := &pluginpb.CodeGeneratorRequest{FileToGenerate: sources,
		Parameter: proto.String("paths=source_relative")}
	for _, f := range files {
		req.ProtoFile = append(req.ProtoFile, protodesc.ToFileDescriptorProto(f))
	}
	if err := messages(req); err != nil {
		return err
	}
	return services(req)
}

func messages(req *pluginpb.CodeGeneratorRequest) error {
	plugin, err := protogen.Options{}.New(req)
	if err != nil {
		return err
	}
	for _, f := range plugin.Files {
		internal_gengo.GenerateFile(plugin, f)
	}
	return write(plugin.Response())
}

func services(req *pluginpb.CodeGeneratorRequest) error {
	data, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: sources[1:], Parameter: req.Parameter, ProtoFile: req.ProtoFile})
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "tool", "protoc-gen-go-grpc")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	resp := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(out, resp); err != nil {
		return err
	}
	return write(resp)
}

func write(resp *pluginpb.CodeGeneratorResponse) error {
	if resp.Error != nil {
		return errors.New(*resp.Error)
	}
	for _, f := range resp.File {
		path := filepath.Join("..", filepath.Base(f.GetName()))
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
