//go:build amd64 && !purego

package kernels

func winogradInput(a *winogradTile) {
	a.check(6, 6)
	switch current {
	case levelAVX512:
		winogradInputAVX512(a)
	case levelAVX2:
		winogradInputAVX2(a)
	default:
		winogradInputGo(a)
	}
}

func winogradGradient(a *winogradTile) {
	a.check(4, 4)
	switch current {
	case levelAVX512:
		winogradGradientAVX512(a)
	case levelAVX2:
		winogradGradientAVX2(a)
	default:
		winogradGradientGo(a)
	}
}

func winogradWeights(a *winogradTile) {
	a.check(3, 0)
	switch current {
	case levelAVX512:
		winogradWeightsAVX512(a)
	case levelAVX2:
		winogradWeightsAVX2(a)
	default:
		winogradWeightsGo(a)
	}
}

func winogradOutput(a *winogradTile) {
	a.check(4, 4)
	switch current {
	case levelAVX512:
		winogradOutputAVX512(a)
	case levelAVX2:
		winogradOutputAVX2(a)
	default:
		winogradOutputGo(a)
	}
}

func winogradTaps(a *winogradTile) {
	a.check(3, 0)
	switch current {
	case levelAVX512:
		winogradTapsAVX512(a)
	case levelAVX2:
		winogradTapsAVX2(a)
	default:
		winogradTapsGo(a)
	}
}

func maxWindows(a *windows) {
	a.check(false)
	switch current {
	case levelAVX512:
		maxWindowsAVX512(a)
	case levelAVX2:
		maxWindowsAVX2(a)
	default:
		maxWindowsGo(a)
	}
}

func maxWindowsBackward(a *windows) {
	a.check(true)
	switch current {
	case levelAVX512:
		maxWindowsBackwardAVX512(a)
	case levelAVX2:
		maxWindowsBackwardAVX2(a)
	default:
		maxWindowsBackwardGo(a)
	}
}
