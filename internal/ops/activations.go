package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

// activations is the table of the operators that are a function of one element.
var activations = []activation{
	{name: "Relu", versions: []int64{1, 6, 13, 14}, ofOutput: true,
		f:          plain(func(x float64) float64 { return math.Max(x, 0) }),
		derivative: plain(step)},
	{name: "Sigmoid", versions: []int64{1, 6, 13}, ofOutput: true,
		fast:       kernel(kernels.FuncSigmoid),
		f:          plain(sigmoid),
		derivative: plain(func(y float64) float64 { return y * (1 - y) })},
	{name: "Tanh", versions: []int64{1, 6, 13}, ofOutput: true,
		fast:       kernel(kernels.FuncTanh),
		f:          plain(math.Tanh),
		derivative: plain(func(y float64) float64 { return 1 - y*y })},
	{name: "LeakyRelu", versions: []int64{1, 6, 16}, attrs: []AttrDef{floatA("alpha")},
		fast: func(n *Node) (kernels.Map, bool) {
			return kernels.NewMap(kernels.FuncLeakyRelu, n.Float("alpha", 0.01)), true
		},
		f: func(n *Node) func(float64) float64 {
			a := float64(n.Float("alpha", 0.01))
			return func(x float64) float64 {
				if x < 0 {
					return a * x
				}
				return x
			}
		},
		derivative: func(n *Node) func(float64) float64 {
			a := float64(n.Float("alpha", 0.01))
			return func(x float64) float64 {
				if x > 0 {
					return 1
				}
				return a
			}
		}},
	{name: "Elu", versions: []int64{1, 6, 22}, attrs: []AttrDef{floatA("alpha")},
		fast: func(n *Node) (kernels.Map, bool) {
			return kernels.Elu(n.Float("alpha", 1)), true
		},
		f:          func(n *Node) func(float64) float64 { return elu(float64(n.Float("alpha", 1)), 1) },
		derivative: func(n *Node) func(float64) float64 { return eluGrad(float64(n.Float("alpha", 1)), 1) }},
	{name: "Selu", versions: []int64{1, 6, 22}, attrs: []AttrDef{floatA("alpha"), floatA("gamma")},
		fast: func(n *Node) (kernels.Map, bool) {
			alpha, gamma := SeluParams(n)
			return kernels.Selu(float32(alpha), float32(gamma)), true
		},
		f:          func(n *Node) func(float64) float64 { return elu(SeluParams(n)) },
		derivative: func(n *Node) func(float64) float64 { return eluGrad(SeluParams(n)) }},
	{name: "Celu", versions: []int64{12, 28}, attrs: []AttrDef{floatA("alpha")},
		fast: func(n *Node) (kernels.Map, bool) {
			alpha := n.Float("alpha", 1)
			return kernels.Celu(alpha), alpha > 0
		},
		f: func(n *Node) func(float64) float64 {
			a := float64(n.Float("alpha", 1))
			return func(x float64) float64 { return math.Max(x, 0) + math.Min(0, a*math.Expm1(x/a)) }
		},
		derivative: func(n *Node) func(float64) float64 {
			a := float64(n.Float("alpha", 1))
			return func(x float64) float64 {
				if x > 0 {
					return 1
				}
				return math.Exp(x / a)
			}
		}},
	{name: "HardSigmoid", versions: []int64{1, 6, 22}, attrs: []AttrDef{floatA("alpha"), floatA("beta")},
		fast: func(n *Node) (kernels.Map, bool) {
			return kernels.NewMap(kernels.FuncHardSigmoid, n.Float("alpha", 0.2), n.Float("beta", 0.5)), true
		},
		f: func(n *Node) func(float64) float64 {
			a, b := float64(n.Float("alpha", 0.2)), float64(n.Float("beta", 0.5))
			return func(x float64) float64 { return math.Max(0, math.Min(1, a*x+b)) }
		},
		derivative: func(n *Node) func(float64) float64 {
			a, b := float64(n.Float("alpha", 0.2)), float64(n.Float("beta", 0.5))
			return func(x float64) float64 {
				if y := a*x + b; y > 0 && y < 1 {
					return a
				}
				return 0
			}
		}},
	{name: "HardSwish", versions: []int64{14, 22},
		fast: kernel(kernels.FuncHardSwish),
		f:    plain(func(x float64) float64 { return x * math.Max(0, math.Min(1, x/6+0.5)) }),
		derivative: plain(func(x float64) float64 {
			switch {
			case x <= -3:
				return 0
			case x >= 3:
				return 1
			}
			return x/3 + 0.5
		})},
	{name: "Softplus", versions: []int64{1, 22},
		fast: kernel(kernels.FuncSoftplus), f: plain(softplus), derivative: plain(sigmoid)},
	{name: "Softsign", versions: []int64{1, 22},
		fast: kernel(kernels.FuncSoftsign),
		f:    plain(func(x float64) float64 { return x / (1 + math.Abs(x)) }),
		derivative: plain(func(x float64) float64 {
			d := 1 + math.Abs(x)
			return 1 / (d * d)
		})},
	{name: "Gelu", versions: []int64{20}, attrs: []AttrDef{stringA("approximate")},
		fast: geluMap, f: gelu, derivative: geluGrad},
	{name: "Mish", versions: []int64{18, 22},
		fast: kernel(kernels.FuncMish),
		f:    plain(func(x float64) float64 { return x * math.Tanh(softplus(x)) }),
		derivative: plain(func(x float64) float64 {
			t := math.Tanh(softplus(x))
			return t + x*(1-t*t)*sigmoid(x)
		})},
	{name: "ThresholdedRelu", versions: []int64{10, 22}, attrs: []AttrDef{floatA("alpha")},
		fast: func(n *Node) (kernels.Map, bool) {
			return kernels.NewMap(kernels.FuncThresholdedRelu, n.Float("alpha", 1)), true
		},
		f: func(n *Node) func(float64) float64 {
			a := float64(n.Float("alpha", 1))
			return func(x float64) float64 {
				if x > a {
					return x
				}
				return 0
			}
		},
		derivative: func(n *Node) func(float64) float64 {
			a := float64(n.Float("alpha", 1))
			return func(x float64) float64 { return step(x - a) }
		}},
	{name: "Shrink", versions: []int64{9}, attrs: []AttrDef{floatA("bias"), floatA("lambd")},
		fast: func(n *Node) (kernels.Map, bool) {
			return kernels.NewMap(kernels.FuncShrink, n.Float("bias", 0), n.Float("lambd", 0.5)), true
		},
		f: func(n *Node) func(float64) float64 {
			bias, lambd := float64(n.Float("bias", 0)), float64(n.Float("lambd", 0.5))
			return func(x float64) float64 {
				switch {
				case x < -lambd:
					return x + bias
				case x > lambd:
					return x - bias
				}
				return 0
			}
		},
		derivative: func(n *Node) func(float64) float64 {
			lambd := float64(n.Float("lambd", 0.5))
			return func(x float64) float64 { return step(math.Abs(x) - lambd) }
		}},
	{name: "Swish", versions: []int64{24}, attrs: []AttrDef{floatA("alpha")},
		fast: func(n *Node) (kernels.Map, bool) {
			return kernels.NewMap(kernels.FuncSwish, n.Float("alpha", 1)), true
		},
		f: func(n *Node) func(float64) float64 {
			a := float64(n.Float("alpha", 1))
			return func(x float64) float64 { return x * sigmoid(a*x) }
		},
		derivative: func(n *Node) func(float64) float64 {
			a := float64(n.Float("alpha", 1))
			return func(x float64) float64 {
				s := sigmoid(a * x)
				return s + a*x*s*(1-s)
			}
		}},
}

// elu is gamma*x for x > 0, else gamma*alpha*(exp(x)-1).
func elu(alpha, gamma float64) func(float64) float64 {
	return func(x float64) float64 {
		if x > 0 {
			return gamma * x
		}
		return gamma * alpha * math.Expm1(x)
	}
}

func eluGrad(alpha, gamma float64) func(float64) float64 {
	return func(x float64) float64 {
		if x > 0 {
			return gamma
		}
		return gamma * alpha * math.Exp(x)
	}
}

// SeluParams reads Selu's attributes; version 1 had shorter defaults.
func SeluParams(n *Node) (alpha, gamma float64) {
	a, g := float32(1.67326319217681884765625), float32(1.05070102214813232421875)
	if n.Since == 1 && n.Domain != GradDomain {
		a, g = 1.6732, 1.0507
	}
	return float64(n.Float("alpha", a)), float64(n.Float("gamma", g))
}

// gelu is x times the normal distribution function, or its approximation by tanh.
func gelu(n *Node) func(float64) float64 {
	if n.Str("approximate", "none") == "tanh" {
		return func(x float64) float64 { return 0.5 * x * (1 + math.Tanh(geluInner(x))) }
	}
	return func(x float64) float64 { return 0.5 * x * math.Erfc(-x/math.Sqrt2) }
}

func geluInner(x float64) float64 { return math.Sqrt(2/math.Pi) * (x + 0.044715*x*x*x) }

func geluGrad(n *Node) func(float64) float64 {
	if n.Str("approximate", "none") == "tanh" {
		return func(x float64) float64 {
			t := math.Tanh(geluInner(x))
			return 0.5*(1+t) + 0.5*x*(1-t*t)*math.Sqrt(2/math.Pi)*(1+3*0.044715*x*x)
		}
	}
	return func(x float64) float64 {
		return 0.5*math.Erfc(-x/math.Sqrt2) + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
	}
}

// geluMap is the kernel of Gelu.
func geluMap(n *Node) (kernels.Map, bool) {
	if n.Str("approximate", "none") == "tanh" {
		return kernels.NewMap(kernels.FuncGeluTanh), true
	}
	return kernels.NewMap(kernels.FuncGelu), true
}
