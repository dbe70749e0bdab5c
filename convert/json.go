package convert

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/cnnkit/cnnkit/onnxio"
)

// jsonParser reads JSON token by token: encoding/json's own decoding would let duplicate keys and other cases
// of a key pass.
type jsonParser struct {
	d             *json.Decoder
	format, where string // as errors name them
}

func newJSON(text []byte, format, where string) *jsonParser {
	p := &jsonParser{json.NewDecoder(bytes.NewReader(text)), format, where}
	p.d.UseNumber()
	return p
}

func (p *jsonParser) bad(msg string, args ...any) error {
	return malformed(p.format, p.where, msg, args...)
}

func (p *jsonParser) token() (json.Token, error) {
	t, err := p.d.Token()
	if err != nil {
		return nil, &onnxio.FormatError{Format: p.format, Where: p.where, Msg: "JSON", Err: err}
	}
	return t, nil
}

// object reads { and }, and calls value for each key, which must come once.
func (p *jsonParser) object(value func(key string) error) error {
	t, err := p.token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return p.bad("%v where an object must be", t)
	}
	return p.members(value)
}

// members reads the rest of an object whose { was read.
func (p *jsonParser) members(value func(key string) error) error {
	seen := map[string]bool{}
	for {
		t, err := p.token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok { // the decoder sees to it that this is }
			return nil
		}
		if seen[key] {
			return p.bad("duplicate key %.80q", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return err
		}
	}
}

func (p *jsonParser) str() (string, error) {
	t, err := p.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", p.bad("%v where a string must be", t)
	}
	return s, nil
}

func (p *jsonParser) ints(most int) ([]int64, error) {
	t, err := p.token()
	if err != nil {
		return nil, err
	}
	if t != json.Delim('[') {
		return nil, p.bad("%v where an array must be", t)
	}
	out := []int64{}
	for {
		if t, err = p.token(); err != nil {
			return nil, err
		}
		if t == json.Delim(']') {
			return out, nil
		}
		num, _ := t.(json.Number)
		v, err := strconv.ParseInt(string(num), 10, 64)
		if err != nil || v < 0 {
			return nil, p.bad("%v where a natural number must be", t)
		}
		if out = append(out, v); len(out) > most {
			return nil, p.bad("more than %d numbers in an array", most)
		}
	}
}

// metadata reads an object from string to string, or null, which the safetensors library takes for none.
func (p *jsonParser) metadata() error {
	t, err := p.token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('{') {
		return p.bad("%v where an object must be", t)
	}
	return p.members(func(string) error { _, err := p.str(); return err })
}

// skip reads a value of any kind.
func (p *jsonParser) skip() error {
	for depth := 0; ; {
		t, err := p.token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// end wants nothing but space after the value.
func (p *jsonParser) end(text []byte) error {
	if len(bytes.TrimRight(text[p.d.InputOffset():], " \t\r\n")) != 0 {
		return p.bad("text after the closing }")
	}
	return nil
}
