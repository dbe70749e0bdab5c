package builders

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// A seed's weights are for ever: models and recipes name the seed they began with. PCG and the
// conversion from it are the same on every machine. A hash may change with what a file says beside its
// weights; then say so in the commit.
func TestGoldenBytes(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"lenet5", Config{}, "ba08fd870a46910b4907229af647fa611b98706cd32f1e31b87c1182a0b4fa37"},
		{"minivgg", Config{}, "20d7d65d31b3ed6f708fea0b099e24550032849ea9705e3c28e628a3ffc93468"},
		{"resnet", Config{}, "9fb6da9a7702ca24dc64446c2a57668fa0ebd35c056f2b998e31800264b0daad"},
		{"resnet20", Config{}, "5add704d7b3d7fee17aa676c0bc0e472995927ec4216ba49da6f3b4a88388089"},
		{"resnet9", Config{Width: 8}, "eb7a2e68d51b88bd6048689495cf584f6ea48a3ac3a04d3d316ce7009bb465b9"},
		{"resnet18", Config{Width: 8}, "661f1134ef7712e96f91bf56f84c1bc3af80e54b4e8ead1566026268bc6ece20"},
		{"unet", Config{Width: 8}, "c584d1e47f36c080a6188054da9e6f3212bec7ac93b77f4be28cb82a70af40c6"},
		{"vgg16", Config{Width: 4}, "2b37f566c2dfcc634a5a019cc0cccd5e731036370563e6a5dbe681fb10162529"},
	} {
		m, err := Build(c.name, c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		data, err := onnxio.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != c.want {
			t.Errorf("%s %+v: SHA-256 %x, want %s", c.name, c.cfg, sum, c.want)
		}
	}
}

// moments of n numbers: the mean of a sample strays from the distribution's by about
// std/sqrt(n), the variance by sqrt((kurtosis-1)/n) of itself; five times that is one failure in
// a million, and the seed is fixed.
func moments(t *testing.T, name string, data []float32, std, kurtosis float64) {
	t.Helper()
	n, sum, squares := float64(len(data)), 0.0, 0.0
	for _, v := range data {
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	if mean := sum / n; math.Abs(mean) > 5*std/math.Sqrt(n) {
		t.Errorf("%s: mean %g, want 0 by %g", name, mean, std/math.Sqrt(n))
	}
	if ratio := squares / n / (std * std); math.Abs(ratio-1) > 5*math.Sqrt((kurtosis-1)/n) {
		t.Errorf("%s: variance %g, want %g", name, squares/n, std*std)
	}
}

// extent is the largest magnitude.
func extent(data []float32) float64 {
	return math.Max(float64(slices.Max(data)), -float64(slices.Min(data)))
}

// PyTorch's default is uniform with bound 1/sqrt(fan_in), the bound of
// kaiming_uniform_(a=sqrt(5)): variance bound^2/3.
func TestDefaultWeights(t *testing.T) {
	b := New("net", 0, 1, 32, 8, 8)
	x := b.Conv2d("conv", b.Input(), 64, 3, Groups(2))
	x = b.ConvTranspose2d("up", x, 48, 3)
	m, err := b.Model(b.Linear("fc", b.Flatten("flatten", x), 40))
	if err != nil {
		t.Fatal(err)
	}
	for layer, fan := range map[string]float64{"conv": 16 * 9, "up": 48 * 9, "fc": 48 * 8 * 8} {
		bound := 1 / math.Sqrt(fan)
		w, bias := m.Graph.Initializer(layer+".weight").Float32s(),
			m.Graph.Initializer(layer+".bias").Float32s()
		moments(t, layer, w, bound/math.Sqrt(3), 9.0/5)
		moments(t, layer+".bias", bias, bound/math.Sqrt(3), 9.0/5)
		if e := extent(w); e > bound*(1+1e-7) || e < 0.999*bound {
			t.Errorf("%s: weights reach %g, want just under %g", layer, e, bound)
		}
		if e := extent(bias); e > bound*(1+1e-7) || e < 0.8*bound {
			t.Errorf("%s: biases reach %g, want just under %g", layer, e, bound)
		}
	}
}

// torchvision draws convolutions from a normal distribution of variance 2/fan_out, VGG's other weights of
// 0.01^2; norms begin as the identity, and VGG's biases with zero.
func TestTorchvisionWeights(t *testing.T) {
	all := func(data []float32, v float32) bool {
		return !slices.ContainsFunc(data, func(d float32) bool { return d != v })
	}
	for _, name := range []string{"resnet18", "vgg16"} {
		m, err := Build(name, Config{Width: 16, Seed: 2})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range m.Graph.Initializers {
			data := p.Float32s()
			switch {
			case len(p.Dims) == 4:
				moments(t, p.Name, data, math.Sqrt(2/float64(p.Dims[0]*p.Dims[2]*p.Dims[3])), 3)
			case len(p.Dims) == 2 && name == "vgg16":
				moments(t, p.Name, data, 0.01, 3)
			case p.Name == "fc.weight":
				moments(t, p.Name, data, math.Sqrt(1/float64(3*p.Dims[1])), 9.0/5)
			case strings.HasSuffix(p.Name, "weight") || strings.HasSuffix(p.Name, "running_var"):
				if !all(data, 1) {
					t.Errorf("%s is not all ones", p.Name)
				}
			case len(p.Dims) == 1 && p.Name != "fc.bias":
				if !all(data, 0) {
					t.Errorf("%s is not all zeros", p.Name)
				}
			}
		}
	}
}

// Every parameter has a stream of its own: other layers do not move it.
func TestWeightsDependOnTheirNameOnly(t *testing.T) {
	weight := func(deeper bool) []float32 {
		b := New("net", 0, 4, 3, 8, 8)
		x := b.Input()
		if deeper {
			x = b.Conv2d("first", x, 3, 3, Pad(1), WeightInit(KaimingNormal))
		}
		m, err := b.Model(b.Conv2d("conv", x, 4, 3))
		if err != nil {
			t.Fatal(err)
		}
		return m.Graph.Initializer("conv.weight").Float32s()
	}
	if !slices.Equal(weight(false), weight(true)) {
		t.Error("a layer before changes the weights")
	}
}
