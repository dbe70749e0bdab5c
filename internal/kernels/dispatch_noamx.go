//go:build !amd64 || purego

package kernels

func narrow(dst []uint16, lo, hi []float32, n, step int) { narrowGo(dst, lo, hi, n, step) }
func widen(lo, hi []float32, src []uint16, n, step int)  { widenGo(lo, hi, src, n, step) }
func (a *bf16Call) amx()                                 { a.runGo() }
func (a *int8Call) amx()                                 { a.runGo() }
func pair(dst, src []uint16)                             { pairGo(dst, src) }
func turnPairs(dst []uint32, apart int, src []uint32)    { turnPairsGo(dst, apart, src) }
func (a *int8Call) vnni()                                { a.runGo() }
func hasVNNI() bool                                      { return false }
func hasVBMI() bool                                      { return false }
func (a *depthwiseRow) vnni()                            { a.runGo() }

// The rest is never called: useVNNI says so.

func (l *Levels) quantizeAVX512(dst []uint8, src []float32, n, to, from int)         {}
func (l *Levels) dequantizeAVX512(dst []float32, src []uint8, n, to, from int)       {}
func (l *Levels) pixelsAVX512(dst []uint8, planes *[PixelLanes][]float32, w int) int { return 0 }
func (p *AddBytes) runAVX512(y, a, b []uint8, n int)                                 {}
func (p *MulBytes) runAVX512(y, a, b []uint8, n, step int)                           {}
func (t *ByteTable) runVBMI(y, x []uint8, n int)                                     {}
func maxLinesAVX512(y, x []uint8, n, step int, signed bool)                          {}
