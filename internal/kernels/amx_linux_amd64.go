//go:build !purego

package kernels

import "golang.org/x/sys/unix"

// Bits of the processor's answers, by Intel's manual: CPUID(1).ECX, CPUID(7, 0).EDX,
// CPUID(7, 1).EAX and XCR0.
const (
	hasOSXSAVE   = 1 << 27
	hasAMX       = 1<<22 | 1<<24 | 1<<25 // AMX-BF16, AMX-TILE, AMX-INT8
	hasAVX512BF  = 1 << 5
	savesTiles   = 1<<17 | 1<<18 // XTILECFG, XTILEDATA
	permitXSTATE = 0x1023        // arch_prctl's ARCH_REQ_XCOMP_PERM
	stateTiles   = 18            // XTILEDATA
)

// grantAMX asks the system for tiles, for all threads of the process, where the processor has AMX for bf16
// and int8 with 8 tiles of 16 rows of 64 bytes. Without the grant the first use of a tile ends in SIGILL.
func grantAMX() bool {
	if last, _, _, _ := cpuidex(0, 0); last < 0x1d {
		return false
	}
	_, _, c1, _ := cpuidex(1, 0)
	_, _, _, d7 := cpuidex(7, 0)
	a7, _, _, _ := cpuidex(7, 1)
	if c1&hasOSXSAVE == 0 || d7&hasAMX != hasAMX || a7&hasAVX512BF == 0 || xgetbv()&savesTiles != savesTiles {
		return false
	}
	_, b, c, _ := cpuidex(0x1d, 1)
	if b>>16 < 8 || b&0xffff != 64 || c&0xffff < 16 {
		return false
	}
	_, _, errno := unix.RawSyscall(unix.SYS_ARCH_PRCTL, permitXSTATE, stateTiles, 0)
	return errno == 0
}
