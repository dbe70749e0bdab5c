// Package download fetches published files over HTTP: from the first of several places, resumed after an
// interruption, checked against what is known of them, and never half under their own names.
package download

import (
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

// DefaultLimit is the most bytes of a file of unknown size.
const DefaultLimit = 8 << 30

// File is a file as the places that publish it have it.
type File struct {
	Name  string
	Bases []string // addresses of the folders that have it, in the order in which they are tried
	Size  int64    // in bytes; 0: unknown
	Limit int64    // the most bytes where the size is unknown; 0: DefaultLimit
	Hash  string   // as Digest takes it; "" is not known
}

// Options says how to fetch.
type Options struct {
	// Mirror is the address (http or https) of a folder that has the file under its name; ""
	// is the places themselves.
	Mirror string
	// Client makes the requests, by default with the proxies of the environment, without a limit of time but
	// for a server that falls silent.
	Client *http.Client
	// Progress is called while a file comes; total is 0 when it is not known.
	Progress func(file string, done, total int64)
}

// Fetch brings a file to path, complete and with the right hash, from the first place that has it. Until then
// it is path.part, with which an interrupted Fetch goes on. A file at path that is another one is taken away.
func (f File) Fetch(ctx context.Context, path string, o Options) error {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().IsRegular() && f.Check(path) == nil {
			return nil
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	bases := f.Bases
	if o.Mirror != "" {
		u, err := url.Parse(o.Mirror)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("mirror %q: the address of a folder is wanted, with http or https", o.Mirror)
		}
		bases = []string{strings.TrimSuffix(o.Mirror, "/") + "/"}
	}
	var errs []error
	for _, base := range bases {
		err := f.from(ctx, base+f.Name, path, o)
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

// from downloads path.part, goes on with what there is of it, and once more from the beginning
// when that has the wrong hash.
func (f File) from(ctx context.Context, address, path string, o Options) error {
	part := path + ".part"
	for {
		resumed, err := f.download(ctx, address, part, o)
		if err != nil {
			if info, serr := os.Stat(part); serr == nil && info.Size() == 0 {
				_ = os.Remove(part)
			}
			return fmt.Errorf("%s: %w", address, err)
		}
		err = f.Check(part)
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

// Check compares the size and the hash of a file at path with what is known.
func (f File) Check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if f.Size != 0 && info.Size() != f.Size {
		return &onnxio.FormatError{Format: "download", Path: path,
			Msg: fmt.Sprintf("%d bytes, where %d are wanted", info.Size(), f.Size)}
	}
	if f.Hash == "" {
		return nil
	}
	r, err := os.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := Digest(r, f.Hash)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(got, f.Hash) {
		return &onnxio.FormatError{Format: "download", Path: path, Msg: fmt.Sprintf(
			"its hash is %s, where %s is wanted: it is another file, or was changed on the way", got, f.Hash)}
	}
	return nil
}

// Digest is the hash of r by the algorithm of a hash like it, which its length tells: an MD5, a SHA-256, or
// eight digits and more of one.
func Digest(r io.Reader, like string) (string, error) {
	var h hash.Hash
	switch n := len(like); {
	case n == md5.Size*2:
		h = md5.New() // published where nothing better is
	case n >= 8 && n <= sha256.Size*2:
		h = sha256.New()
	default:
		return "", fmt.Errorf("%q is neither a SHA-256 nor its beginning nor an MD5", like)
	}
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// silence is how long a server may send nothing.
const silence = time.Minute

// download appends to part what it lacks, by a request for the range (RFC 9110, section 14), or all of it
// where the server does not know ranges. resumed says that what was there has been kept.
func (f File) download(ctx context.Context, address, part string, o Options) (resumed bool, err error) {
	if info, err := os.Lstat(part); err == nil && !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s is not a regular file", part)
	}
	to, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return false, err
	}
	defer func() {
		if cerr := to.Close(); err == nil {
			err = cerr
		}
	}()
	have, err := to.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	if f.Size > 0 && have == f.Size {
		return true, nil
	}
	if f.Size > 0 && have > f.Size {
		if have, err = 0, to.Truncate(0); err != nil {
			return false, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() {
		cancel(fmt.Errorf("the server has sent nothing for %v", silence))
	})
	defer quiet.Stop()
	res, err := request(ctx, address, have, o.Client)
	if err != nil {
		return false, cause(ctx, err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusPartialContent && strings.HasPrefix(res.Header.Get("Content-Range"),
		fmt.Sprintf("bytes %d-", have)):
		resumed = have > 0
	case res.StatusCode == http.StatusOK:
		if have, err = 0, to.Truncate(0); err != nil {
			return false, err
		}
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0:
		return true, nil // nothing is lacking; the hash tells whether it is the file
	default:
		return false, errors.New(res.Status)
	}
	if _, err := to.Seek(have, io.SeekStart); err != nil {
		return resumed, err
	}
	total, limit := f.Size, f.Size
	if total == 0 {
		limit = cmp.Or(f.Limit, DefaultLimit)
		if res.ContentLength > 0 {
			total = have + res.ContentLength
		}
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := res.Body.Read(buf)
		quiet.Reset(silence)
		if have += int64(n); have > limit {
			_ = to.Truncate(0)
			return false, &onnxio.LimitError{What: "bytes of " + f.Name, Got: have, Limit: limit}
		}
		if _, werr := to.Write(buf[:n]); werr != nil {
			return resumed, werr
		}
		if o.Progress != nil {
			o.Progress(f.Name, have, total)
		}
		if errors.Is(err, io.EOF) {
			return resumed, to.Sync()
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
