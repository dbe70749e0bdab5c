package parallel

import (
	"testing"
	"testing/fstest"
)

func TestQuota(t *testing.T) {
	const (
		v1 = "30 23 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
		v2 = "24 23 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
		// As a container sees version 1 without a namespace of its own.
		inside = "30 23 0:26 /docker/1a /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"
		other  = "22 1 254:0 / / rw - ext4 /dev/vda rw\n31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	)
	tests := []struct {
		name   string
		mounts string
		groups string
		files  map[string]string
		want   int
	}{
		{"nothing", "", "", nil, 0},
		{"no cgroups", other, "0::/\n", nil, 0},
		{"v2 unlimited", other + v2, "0::/a\n", map[string]string{"a/cpu.max": "max 100000\n"}, 0},
		{"v2 rounds up", other + v2, "0::/a\n", map[string]string{"a/cpu.max": "250000 100000\n"}, 3},
		{"v2 less than one", other + v2, "0::/a\n", map[string]string{"a/cpu.max": "50000 100000\n"}, 1},
		{"v2 root of a namespace", v2, "0::/\n", map[string]string{"cpu.max": "200000 100000\n"}, 2},
		{"v2 parent is tighter", v2, "0::/a/b\n", map[string]string{"a/cpu.max": "200000 100000\n",
			"a/b/cpu.max": "800000 100000\n"}, 2},
		{"v2 of others", v2, "0::/a\n", map[string]string{"b/cpu.max": "100000 100000\n"}, 0},
		{"v1", other + v1, "4:cpu,cpuacct:/a\n3:memory:/b\n",
			map[string]string{"cpu/a/cpu.cfs_quota_us": "150000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
			2},
		{"v1 unlimited", v1, "4:cpu,cpuacct:/a\n", map[string]string{"cpu/a/cpu.cfs_quota_us": "-1\n",
			"cpu/a/cpu.cfs_period_us": "100000\n"}, 0},
		{"v1 in a container", inside, "4:cpu,cpuacct:/docker/1a\n",
			map[string]string{"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4},
		{"both", v1 + v2, "4:cpu,cpuacct:/\n0::/\n", map[string]string{"cpu.max": "300000 100000\n",
			"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2},
		{"damaged", v2, "0::/a\n", map[string]string{"a/cpu.max": "\n", "cpu.max": "x y\n"}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := fstest.MapFS{
				"proc/self/mountinfo": {Data: []byte(test.mounts)},
				"proc/self/cgroup":    {Data: []byte(test.groups)},
			}
			for name, text := range test.files {
				root["sys/fs/cgroup/"+name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := quotaIn(root); got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}

func TestDefaultThreads(t *testing.T) {
	p := New(0)
	defer p.Close()
	if n := p.Threads(); n < 1 || n > affinity() {
		t.Errorf("%d threads on %d CPUs", n, affinity())
	}
}
