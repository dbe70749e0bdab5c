package serve

import (
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"time"
)

// body reads a request's body within the limits of one request and of all together. The caller must call done
// when it has no more use for the bytes.
func (s *Server) body(w http.ResponseWriter, r *http.Request) (data []byte, done func(), err error) {
	defer func() {
		if err != nil {
			w.Header().Set("Connection", "close") // what follows is not read
		}
	}()
	if r.ContentLength > s.opt.MaxBody {
		return nil, nil, fail(http.StatusRequestEntityTooLarge, "a body of %d bytes: %d at most",
			r.ContentLength, s.opt.MaxBody)
	}
	from, err := decompressed(r.Header.Get("Content-Encoding"), http.MaxBytesReader(w, r.Body, s.opt.MaxBody))
	if err != nil {
		return nil, nil, err
	}
	m := reading{server: s}
	if err := m.read(from, min(max(r.ContentLength, 512), 1<<20)); err != nil {
		s.memory.release(m.held)
		return nil, nil, err
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // which outer has set
	return m.data, func() { s.memory.release(m.held) }, nil
}

// reading is a body as far as it has come.
type reading struct {
	server *Server
	data   []byte
	held   int64
}

// read grows its memory with what comes, not with what is announced.
func (m *reading) read(from io.Reader, first int64) error {
	limit := m.server.opt.MaxBody
	for size := first; ; size = min(2*size, limit+1) {
		if err := m.grow(size); err != nil {
			return err
		}
		for len(m.data) < cap(m.data) {
			n, err := from.Read(m.data[len(m.data):cap(m.data)])
			m.data = m.data[:len(m.data)+n]
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return broken(err)
			}
		}
		if int64(len(m.data)) > limit {
			return fail(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", limit)
		}
	}
}

// broken is the status of a body that does not come whole.
func broken(err error) error {
	if statusOf(err) != http.StatusInternalServerError {
		return err
	}
	return fail(http.StatusBadRequest, "reading the body: %w", err)
}

func (m *reading) grow(size int64) error {
	if err := m.server.memory.reserve(size - m.held); err != nil {
		return err
	}
	m.held = size
	data := make([]byte, len(m.data), size)
	copy(data, m.data)
	m.data = data
	return nil
}

// decompressed undoes a Content-Encoding.
func decompressed(encoding string, from io.Reader) (io.Reader, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return from, nil
	case "gzip":
		r, err := gzip.NewReader(from)
		if err != nil {
			return nil, broken(err)
		}
		return r, nil
	case "deflate":
		r, err := zlib.NewReader(from)
		if err != nil {
			return nil, broken(err)
		}
		return r, nil
	}
	return nil, fail(http.StatusUnsupportedMediaType, "Content-Encoding %q: gzip and deflate are taken",
		printable(encoding))
}
