package parallel

import (
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// affinity is the number of CPUs in the process's affinity mask, 0 if unknown.
func affinity() int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return 0
	}
	return set.Count()
}

// quota is the number of CPUs the process's cgroup may use, rounded up, 0 without a limit. The Go runtime
// knows the quota too, but takes 2 where it is less.
func quota() int { return quotaIn(os.DirFS("/")) }

// quotaIn reads /proc/self and the cgroup hierarchies, of version 1 or 2, below root. A limit anywhere
// between the process's group and the mounted root holds.
func quotaIn(root fs.FS) int {
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return 0
	}
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	least := math.Inf(1)
	for line := range strings.Lines(string(mounts)) {
		// 31 23 0:26 /root /mount/point options [optional...] - type source options; see proc(5).
		left, right, ok := strings.Cut(line, " - ")
		f, t := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 5 || len(t) < 3 {
			continue
		}
		v2 := t[0] == "cgroup2"
		if !v2 && (t[0] != "cgroup" || !slices.Contains(strings.Split(t[2], ","), "cpu")) {
			continue
		}
		group := strings.TrimPrefix(groupOf(string(groups), v2), strings.TrimSuffix(f[3], "/"))
		for dir := path.Join("/", group); ; dir = path.Dir(dir) {
			least = min(least, limit(root, path.Join(f[4], dir)[1:], v2))
			if dir == "/" {
				break
			}
		}
	}
	if math.IsInf(least, 1) {
		return 0
	}
	return max(int(math.Ceil(least)), 1)
}

// groupOf finds the process's group in /proc/self/cgroup, whose lines are "0::/path"
// or "4:cpu,cpuacct:/path".
func groupOf(groups string, v2 bool) string {
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) < 3 {
			continue
		}
		if v2 && f[0] == "0" && f[1] == "" || !v2 && slices.Contains(strings.Split(f[1], ","), "cpu") {
			return f[2]
		}
	}
	return "/"
}

// limit reads the CPUs one group may use: cpu.max is "quota period" or "max period".
func limit(root fs.FS, dir string, v2 bool) float64 {
	var quota, period float64
	if v2 {
		f := strings.Fields(read(root, dir+"/cpu.max") + " - -")
		quota, period = number(f[0]), number(f[1])
	} else {
		quota = number(strings.TrimSpace(read(root, dir+"/cpu.cfs_quota_us")))
		period = number(strings.TrimSpace(read(root, dir+"/cpu.cfs_period_us")))
	}
	if quota <= 0 || period <= 0 {
		return math.Inf(1)
	}
	return quota / period
}

func read(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return string(b)
}

// number is 0 for what is none, "max" among them.
func number(s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0
	}
	return v
}
