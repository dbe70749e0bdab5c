package install

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"slices"
	"strings"
)

// Version is the newest pinned version of the CPU's build.
const Version = "1.32.0"

// A build is a version of ONNX Runtime for the CPU or for CUDA.
type build struct {
	name    string // of its folder
	version string
	// sums are the SHA-256 sums of its files, by platform and by the name once installed. One file may have
	// several, as the sources pack it.
	sums map[string]map[string][]string
}

var newest = &build{name: Version, version: Version, sums: map[string]map[string][]string{
	"linux/amd64":   {"libonnxruntime.so": {"6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f"}},
	"linux/arm64":   {"libonnxruntime.so": {"49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a"}},
	"darwin/arm64":  {"libonnxruntime.dylib": {"fa585fabbea65b823b9a8f7e27d46aee3989d1be7e36b528203d3a1fd613aae7"}},
	"windows/amd64": {"onnxruntime.dll": {"443c0065fcdba17618ddef05050308f4b471893c5c7da0337d6957c9073ad8a7"}},
	"windows/arm64": {"onnxruntime.dll": {"a5c1951a7d495fa0c22a0865fe36981fe67f9d5dc7ba3893c20fa7266dd1e994"}},
}}

// before is the newest version that npm has.
var before = &build{name: "1.30.0", version: "1.30.0", sums: map[string]map[string][]string{
	"linux/amd64": {"libonnxruntime.so": {
		"ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23",   // npm
		"c902c70b3003c0e99fada202f37478c515ae9bba7944c2b2abd0017bae0c82ed"}}, // PyPI
	"linux/arm64":   {"libonnxruntime.so": {"1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76"}},
	"darwin/arm64":  {"libonnxruntime.dylib": {"685d2be5dba1309c89d3a5324b7fd06a5c42f1a61bfea32d14c4cc28d072121d"}},
	"windows/amd64": {"onnxruntime.dll": {"508c362f5673483dd3a086379c392795b2e42d10d5e6f3f90ebd7ac21c97af67"}},
	"windows/arm64": {"onnxruntime.dll": {"6c3a2abf5c6aca11c48a0d338a91af309f2266f25ce2e4084e6a87bbcb0fbfd0"}},
}}

// withCUDA is the newest version of the PyPI wheel onnxruntime-gpu, for CUDA 13 and cuDNN 9. Its provider's
// bits differ between the wheels for Python 3.11, 3.12 and 3.13.
var withCUDA = &build{name: "1.31.1-cuda", version: "1.31.1", sums: map[string]map[string][]string{
	"linux/amd64": {
		"libonnxruntime.so":                  {"5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303"},
		"libonnxruntime_providers_shared.so": {"086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d"},
		"libonnxruntime_providers_cuda.so": {
			"d5290158115fa5569a3fe8f1f4037ee9b0e86658a96e52f852bbb7039aa88137",
			"8387867e857499e045caff5d13ac6a5de29571c801562fa2dde0e45f1f31de52",
			"f62fddac1a32c2893ba9268058fa91e38d14d5ce5609c6e31e7e8b7d61f97e26"},
		"libonnxruntime_providers_tensorrt.so": {"1882ee49fdb0e6fc2d272b00cfaf9a3310bf8580a34385c0eec4d82014ea172e"},
	},
	"windows/amd64": {
		"onnxruntime.dll":                    {"7ce20366f6d5981081bb8bbc0aff757e055e6d0d09c2237cbb2143740cc8658f"},
		"onnxruntime_providers_shared.dll":   {"cb48721ca5b33cc827956f07f9900aa886052a839b2b18a1c11f036a2ebc5c5c"},
		"onnxruntime_providers_cuda.dll":     {"ebb99d5c0b451ff0b67032df80b4e9f442488d9bab1b5eeab68fc1613c1fab96"},
		"onnxruntime_providers_tensorrt.dll": {"83b7fd4e60a6db4d6cd41ae296cfc9ed4b8846cd2ac9c45bfda2ef24c1eb0d5b"},
	},
}}

func platform() string { return goruntime.GOOS + "/" + goruntime.GOARCH }

// fileName is the library's name once installed.
func fileName() string {
	switch goruntime.GOOS {
	case "windows":
		return "onnxruntime.dll"
	case "darwin":
		return "libonnxruntime.dylib"
	}
	return "libonnxruntime.so"
}

func (b *build) library(root string) string { return filepath.Join(root, b.name, fileName()) }

// whole reports whether all of the build is installed, unchanged.
func (b *build) whole(root string) bool {
	sums := map[string]string{}
	for name := range b.sums[platform()] {
		sum, err := sumOf(filepath.Join(root, b.name, name))
		if err != nil {
			return false
		}
		sums[name] = sum
	}
	return b.refuses(sums) == nil
}

// refuses says which of the build's files those of these sums are not.
func (b *build) refuses(sums map[string]string) error {
	known := b.sums[platform()]
	for _, name := range slices.Sorted(maps.Keys(known)) {
		switch sum := sums[name]; {
		case sum == "":
			return fmt.Errorf("no %s is in it, which belongs to ONNX Runtime %s", name, b.name)
		case !slices.Contains(known[name], sum):
			return fmt.Errorf("the SHA-256 of %s is %s, which is not a pinned one", name, sum)
		}
	}
	return nil
}

// place moves the build's files to where they belong, the library last: it says that the build is there.
func (b *build) place(from, root string) error {
	dir := filepath.Join(root, b.name)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name := range b.sums[platform()] {
		if name == fileName() {
			continue
		}
		if err := os.Rename(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(from, fileName()), b.library(root))
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// The names of the library and of its providers in the archives of each system.
var names = map[string]*regexp.Regexp{
	"linux": regexp.MustCompile(`^libonnxruntime(\.so\.\d+(\.\d+\.\d+)?|` +
		`_providers_(shared|cuda|tensorrt)\.so)$`),
	"darwin":  regexp.MustCompile(`^libonnxruntime\.\d+\.\d+\.\d+\.dylib$`),
	"windows": regexp.MustCompile(`^onnxruntime(_providers_(shared|cuda|tensorrt))?\.dll$`),
}

// installed is the name that an archive's entry has once installed; empty for what is no file of a library
// for this platform.
func installed(entry string) string {
	entry = path.Clean(entry)
	base := path.Base(entry)
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[goruntime.GOARCH]
	if strings.Contains(entry, "/napi-v") { // the npm package has every platform's
		system := map[string]string{"windows": "win32"}[goruntime.GOOS]
		if system == "" {
			system = goruntime.GOOS
		}
		if !strings.Contains(entry, "/"+system+"/"+arch+"/") {
			return ""
		}
	}
	of := names[goruntime.GOOS]
	if of == nil || !of.MatchString(base) || strings.Contains(entry, ".dSYM/") {
		return ""
	}
	if strings.Contains(base, "_providers_") {
		return base
	}
	return fileName()
}
