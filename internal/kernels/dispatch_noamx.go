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
