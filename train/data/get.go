package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

// GetOptions says where Get fetches from and to.
type GetOptions struct {
	// Dir is the data set's folder; "" is the first of its Places.
	Dir string
	// Mirror is the address (http or https) of a folder that has the set's files under their official names; "" is the
	// official places. The hashes are the same.
	Mirror string
	// Client makes the requests; nil is one without a limit of time, but for a server that falls silent.
	Client *http.Client
	// Progress is called while a file comes; total is 0 when it is not known.
	Progress func(file string, done, total int64)
}

// Got is what Get did.
type Got struct {
	Dir      string
	Already  bool     // it was there
	Unpinned []string // files whose hash is not known, so that only their size has been checked
}

// Get fetches a data set into its folder, which appears when everything is there: files are checked against pinned
// hashes and archives unpacked beside it first. What an interrupted Get has fetched is taken up by the next.
func Get(ctx context.Context, name string, o GetOptions) (Got, error) {
	name = family(name)
	files, ok := remotes[name]
	if !ok {
		if name == "nuclei" {
			return Got{}, errors.New("nuclei cannot be fetched: its place (Kaggle's Data Science Bowl 2018) wants an account, and keeps a mask for each nucleus; see Places for where it is looked for")
		}
		return Got{}, fmt.Errorf("no data set %q that could be fetched", name)
	}
	if o.Dir == "" {
		places := Places(name)
		if len(places) == 0 {
			return Got{}, errors.New("there is no cache folder: set CNNKIT_DATA, or say into which folder")
		}
		o.Dir = places[0]
	}
	return get(ctx, files, o)
}

func get(ctx context.Context, files []remote, o GetOptions) (got Got, err error) {
	got.Dir = filepath.Clean(o.Dir)
	if entries, err := os.ReadDir(got.Dir); err == nil && len(entries) > 0 {
		if report, err := verifyFolder(got.Dir, nil); err == nil && len(report) > 0 && Sums(report) == nil {
			got.Already = true
			return got, nil
		}
		return got, fmt.Errorf("%s is not empty, and not what has been fetched before: take it away, or fetch into another folder", got.Dir)
	}
	parent, base := filepath.Split(got.Dir)
	work := filepath.Join(parent, "."+base+".partial")
	if err := os.MkdirAll(work, 0o777); err != nil {
		return got, err
	}
	if info, err := os.Lstat(work); err != nil || !info.IsDir() { // a link would lead elsewhere
		return got, fmt.Errorf("%s is not a folder", work)
	}
	ready := filepath.Join(work, "ready")
	if err := os.RemoveAll(ready); err != nil {
		return got, err
	}
	if err := os.Mkdir(ready, 0o777); err != nil {
		return got, err
	}
	for _, r := range files {
		if r.hash == "" {
			got.Unpinned = append(got.Unpinned, r.file)
		}
		file := filepath.Join(work, r.file)
		if err := fetch(ctx, r, file, o); err != nil {
			return got, err
		}
		if !r.archive() {
			continue
		}
		if err := unpack(file, ready, r.strip, maxUnpacked); err != nil {
			return got, err
		}
	}
	for _, r := range files { // last, so that an interruption before finds them again
		if !r.archive() {
			if err := os.Rename(filepath.Join(work, r.file), filepath.Join(ready, r.file)); err != nil {
				return got, err
			}
		}
	}
	if err := writeSums(ready); err != nil {
		return got, err
	}
	_ = os.Remove(got.Dir) // an empty one
	if err := os.Rename(ready, got.Dir); err != nil {
		return got, err
	}
	return got, os.RemoveAll(work)
}

// fetch brings a file to path, complete and with the right hash, from the first place that has it.
func fetch(ctx context.Context, r remote, path string, o GetOptions) error {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().IsRegular() && r.check(path) == nil {
			return nil
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	bases := r.bases
	if o.Mirror != "" {
		u, err := url.Parse(o.Mirror)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("mirror %q: the address of a folder is wanted, with http or https", o.Mirror)
		}
		bases = []string{strings.TrimSuffix(o.Mirror, "/") + "/"}
	}
	var errs []error
	for _, base := range bases {
		err := r.from(ctx, base+r.file, path, o)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// from downloads path.part, goes on with what there is of it, and once more from the beginning when that has the wrong
// hash.
func (r remote) from(ctx context.Context, address, path string, o GetOptions) error {
	part := path + ".part"
	for {
		resumed, err := download(ctx, address, part, r, o)
		if err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
		err = r.check(part)
		if err == nil {
			return os.Rename(part, path)
		}
		if rerr := os.Remove(part); rerr != nil {
			return rerr
		}
		if !resumed {
			return fmt.Errorf("%s: %w", address, err)
		}
	}
}

// check compares a file's size and hash with what is known.
func (r remote) check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if r.size != 0 && info.Size() != r.size {
		return &onnxio.FormatError{Format: "download", Path: path, Msg: fmt.Sprintf("%d bytes, where %d are wanted", info.Size(), r.size)}
	}
	if r.hash == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := digestOf(f, r.hash)
	if err != nil {
		return err
	}
	if got != r.hash {
		return &onnxio.FormatError{Format: "download", Path: path, Msg: fmt.Sprintf("its hash is %s, where %s is wanted: it is another file, or was changed on the way", got, r.hash)}
	}
	return nil
}

// silence is how long a server may send nothing.
const silence = time.Minute

// download appends to part what it lacks, by a request for the range (RFC 9110, section 14), or all of it where the
// server does not know ranges. resumed says that what was there has been kept.
func download(ctx context.Context, address, part string, r remote, o GetOptions) (resumed bool, err error) {
	if info, err := os.Lstat(part); err == nil && !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s is not a regular file", part)
	}
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return false, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	if r.size > 0 && have == r.size {
		return true, nil
	}
	if r.size > 0 && have > r.size {
		if have, err = 0, f.Truncate(0); err != nil {
			return false, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(fmt.Errorf("the server has sent nothing for %v", silence)) })
	defer quiet.Stop()
	res, err := request(ctx, address, have, o.Client)
	if err != nil {
		return false, cause(ctx, err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusPartialContent && strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)):
		resumed = have > 0
	case res.StatusCode == http.StatusOK:
		if have, err = 0, f.Truncate(0); err != nil {
			return false, err
		}
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0:
		return true, nil // nothing is lacking; the hash tells whether it is the file
	default:
		return false, errors.New(res.Status)
	}
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return resumed, err
	}
	total, limit := r.size, r.size
	if total == 0 {
		limit = maxUnpacked
		if res.ContentLength > 0 {
			total = have + res.ContentLength
		}
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := res.Body.Read(buf)
		quiet.Reset(silence)
		if have += int64(n); have > limit {
			_ = f.Truncate(0)
			return false, &onnxio.LimitError{What: "bytes of " + r.file, Got: have, Limit: limit}
		}
		if _, werr := f.Write(buf[:n]); werr != nil {
			return resumed, werr
		}
		if o.Progress != nil {
			o.Progress(r.file, have, total)
		}
		if errors.Is(err, io.EOF) {
			return resumed, f.Sync()
		}
		if err != nil {
			return resumed, cause(ctx, err)
		}
	}
}

// cause is why a request ended.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

func request(ctx context.Context, address string, from int64, client *http.Client) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	if client == nil {
		client = http.DefaultClient
	}
	return client.Do(req)
}
