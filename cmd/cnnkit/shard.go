package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// shard is one of Count parts of a list; Index is from 1.
type shard struct{ index, count int }

func shardFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "shard",
			Usage: "only part `I/N` of the images, I from 1; parts differ by one image at most"},
		&cli.IntFlag{Name: "shard-from-env",
			Usage: "as --shard, of `N` parts, the part by JOB_COMPLETION_INDEX of a Kubernetes Indexed Job"},
	}
}

// completionIndex is what Kubernetes sets in the pods of an Indexed Job, from 0.
const completionIndex = "JOB_COMPLETION_INDEX"

// shardOf reads --shard and --shard-from-env; without either the one part is the whole.
func shardOf(c *cli.Context) (shard, error) {
	text := c.String("shard")
	if c.IsSet("shard-from-env") {
		n, index := c.Int("shard-from-env"), os.Getenv(completionIndex)
		i, err := strconv.Atoi(index)
		switch {
		case text != "":
			return shard{}, usageError("--shard and --shard-from-env exclude each other")
		case n < 1:
			return shard{}, usageError("--shard-from-env wants the number of parts, from 1")
		case err != nil || i < 0 || i >= n:
			return shard{}, usageError(
				"--shard-from-env %d: the variable %s is %q, not a number from 0 to %d", n, completionIndex,
				index, n-1)
		}
		return shard{i + 1, n}, nil
	}
	if text == "" {
		return shard{1, 1}, nil
	}
	first, second, _ := strings.Cut(text, "/")
	i, err := strconv.Atoi(first)
	n, err2 := strconv.Atoi(second)
	if err != nil || err2 != nil || i < 1 || n < i {
		return shard{}, usageError("--shard wants I/N such as 1/4, I from 1 to N, not %q", text)
	}
	return shard{i, n}, nil
}

func (s shard) String() string { return strconv.Itoa(s.index) + "/" + strconv.Itoa(s.count) }

// of is the shard's part of a list, in order.
func (s shard) of(files []string) []string {
	at := func(i int) int { return int(int64(i) * int64(len(files)) / int64(s.count)) }
	return files[at(s.index-1):at(s.index)]
}

// unique drops the files that were named before.
func unique(files []string) []string {
	seen, out := map[string]bool{}, make([]string, 0, len(files))
	for _, f := range files {
		if !seen[f] {
			out = append(out, f)
		}
		seen[f] = true
	}
	return out
}
