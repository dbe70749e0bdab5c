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

func rowInput(a *winogradTile) {
	a.checkRows(8)
	switch {
	case current == levelGo:
		rowInputGo(a)
	case a.lanes <= 4:
		rowInputFewAVX2(a)
	case current == levelAVX512 && a.lanes == narrowBlock:
		rowInputNarrowAVX512(a)
	case current == levelAVX512:
		rowInputAVX512(a)
	case a.lanes == narrowBlock:
		rowInputNarrowAVX2(a)
	default:
		rowInputAVX2(a)
	}
}

func rowGradient(a *winogradTile) {
	a.checkRows(4)
	switch {
	case current == levelGo:
		rowGradientGo(a)
	case current == levelAVX512 && a.lanes == narrowBlock:
		rowGradientNarrowAVX512(a)
	case current == levelAVX512:
		rowGradientAVX512(a)
	case a.lanes == narrowBlock:
		rowGradientNarrowAVX2(a)
	default:
		rowGradientAVX2(a)
	}
}

func rowOutput(a *winogradTile) {
	a.checkRows(4)
	switch {
	case current == levelGo:
		rowOutputGo(a)
	case current == levelAVX512 && a.lanes == narrowBlock:
		rowOutputNarrowAVX512(a)
	case current == levelAVX512:
		rowOutputAVX512(a)
	case a.lanes == narrowBlock:
		rowOutputNarrowAVX2(a)
	default:
		rowOutputAVX2(a)
	}
}

func rowWeights(a *winogradTile) {
	a.checkTaps()
	switch current {
	case levelAVX512:
		rowWeightsAVX512(a)
	case levelAVX2:
		rowWeightsAVX2(a)
	default:
		rowWeightsGo(a)
	}
}

func rowTaps(a *winogradTile) {
	a.checkTaps()
	switch current {
	case levelAVX512:
		rowTapsAVX512(a)
	case levelAVX2:
		rowTapsAVX2(a)
	default:
		rowTapsGo(a)
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
