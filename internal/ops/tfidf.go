package ops

import (
	"encoding/binary"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TfIdfVectorizer counts the n-grams of a pool in sequences of numbers or strings.

func init() {
	register(&Def{Name: "TfIdfVectorizer", Versions: []int64{9},
		Inputs: []Param{{Name: "X", Type: "T"}}, Outputs: []Param{{Name: "Y", Type: "T1"}},
		Attrs: []AttrDef{intA("max_gram_length").required(), intA("max_skip_count").required(),
			intA("min_gram_length").required(), stringA("mode").required(), intsA("ngram_counts").required(),
			intsA("ngram_indexes").required(),
			intsA("pool_int64s"), stringsA("pool_strings"), floatsA("weights")},
		Types: map[string]TypeSet{"T": Set(onnxio.String) | Indices, "T1": Set(onnxio.Float)}, Tol: reduceTol,
		Check: func(n *Node) error {
			_, err := newVectorizer(n)
			return err
		}, Infer: inferTfIdf, Eval: evalTfIdf})
}

// vectorizer is a node's attributes. An n-gram's key is its words one after the other.
type vectorizer struct {
	mode      string
	shortest  int
	longest   int
	skips     int64
	size      int64              // of the output
	places    []int64            // of every n-gram in the output
	weights   []float32          // of every n-gram; nil: 1
	pool      []map[string]int64 // by length, from 1: key to n-gram
	ofStrings bool
}

// wordKey appends a word to a key: its length and itself.
func wordKey(key []byte, word []byte) []byte {
	return append(binary.AppendUvarint(key, uint64(len(word))), word...)
}

// numberKey is a number as a word.
func numberKey(v int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }

func newVectorizer(n *Node) (*vectorizer, error) {
	v := &vectorizer{mode: n.Str("mode", ""), skips: n.Int("max_skip_count", 0),
		places: n.Ints("ngram_indexes"), size: 1}
	if v.mode != "TF" && v.mode != "IDF" && v.mode != "TFIDF" {
		return nil, n.Errorf("mode %q is not TF, IDF or TFIDF", v.mode)
	}
	counts := n.Ints("ngram_counts")
	shortest, longest := n.Int("min_gram_length", 1), n.Int("max_gram_length", 1)
	if shortest < 1 || longest < shortest || longest > int64(len(counts)) || v.skips < 0 {
		return nil, n.Errorf("n-grams of %d to %d words with %d skipped, of ngram_counts %v",
			shortest, longest, v.skips, counts)
	}
	v.shortest, v.longest = int(shortest), int(longest)
	words, err := v.words(n)
	if err != nil {
		return nil, err
	}
	if a := n.Attr("weights"); a != nil {
		if v.weights = a.Floats; len(v.weights) != len(v.places) {
			return nil, n.Errorf("%d weights of %d n-grams", len(v.weights), len(v.places))
		}
	}
	for _, p := range v.places {
		if p < 0 || p >= 1<<40 {
			return nil, n.Errorf("ngram_indexes has %d", p)
		}
		v.size = max(v.size, p+1)
	}
	return v, v.fill(n, words, counts)
}

// words are those of the pool.
func (v *vectorizer) words(n *Node) ([][]byte, error) {
	texts, numbers := n.Attr("pool_strings"), n.Attr("pool_int64s")
	if (texts == nil) == (numbers == nil) {
		return nil, n.Errorf("one of pool_strings and pool_int64s must be given")
	}
	if v.ofStrings = texts != nil; v.ofStrings {
		return texts.Strings, nil
	}
	words := make([][]byte, len(numbers.Ints))
	for i, x := range numbers.Ints {
		words[i] = numberKey(x)
	}
	return words, nil
}

// fill sorts the pool by length: the n-grams of length k begin at counts[k-1].
func (v *vectorizer) fill(n *Node, words [][]byte, counts []int64) error {
	gram := int64(0)
	for k := 1; k <= len(counts); k++ {
		from, to := counts[k-1], int64(len(words))
		if k < len(counts) {
			to = counts[k]
		}
		if from < 0 || to < from || to > int64(len(words)) || (to-from)%int64(k) != 0 {
			return n.Errorf("ngram_counts %v of a pool of %d", counts, len(words))
		}
		grams := map[string]int64{}
		for ; from < to; from += int64(k) {
			var key []byte
			for _, w := range words[from : from+int64(k)] {
				key = wordKey(key, w)
			}
			grams[string(key)] = gram
			gram++
		}
		v.pool = append(v.pool, grams)
	}
	if gram != int64(len(v.places)) {
		return n.Errorf("%d ngram_indexes of %d n-grams", len(v.places), gram)
	}
	return nil
}

func inferTfIdf(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	v, err := newVectorizer(c.Node)
	if err != nil {
		return err
	}
	c.SetType(0, onnxio.Float)
	if !shaped(c, 0) {
		return nil
	}
	switch s := c.In[0].Shape; len(s) {
	case 0, 1: // a scalar is a sequence of one
		c.Set(0, onnxio.Float, knownDims([]int64{v.size}))
	case 2:
		c.Set(0, onnxio.Float, []onnxio.Dim{s[0], knownDim(v.size)})
	default:
		return c.Node.Errorf("input %s is not [C] or [N,C]", shapeText(s))
	}
	return nil
}

func evalTfIdf(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	v, err := newVectorizer(c.Node)
	if err != nil {
		return err
	}
	x := c.In[0]
	if !hasData(x) || (x.Type == onnxio.String) != v.ofStrings {
		return c.Node.Errorf("input %v with a pool of another type", x.Type)
	}
	words := x.Strings
	if numbers, ok := intsOf(x); ok {
		words = make([][]byte, len(numbers))
		for i, e := range numbers {
			words[i] = numberKey(e)
		}
	}
	dims, length := []int64{v.size}, len(words)
	switch len(x.Dims) {
	case 0, 1:
	case 2:
		dims, length = []int64{x.Dims[0], v.size}, int(x.Dims[1])
	default:
		return c.Node.Errorf("input %s is not [C] or [N,C]", dimsText(x.Dims))
	}
	y, err := c.Alloc(0, onnxio.Float, dims...)
	if err != nil {
		return err
	}
	clear(y.Raw)
	for row := 0; length > 0 && row*length < len(words); row++ {
		v.count(y.Float32s()[row*int(v.size):][:v.size], words[row*length:][:length])
	}
	return nil
}

// count adds one row: n-grams of neighbors, then of words that 1 to skips others separate. Single words have
// no neighbors and are counted once.
func (v *vectorizer) count(y []float32, words [][]byte) {
	seen := map[int64]bool{}
	for k := v.shortest; k <= v.longest; k++ {
		for step := 1; int64(step) <= v.skips+1 && (k-1)*step < len(words); step++ {
			if k == 1 && step > 1 {
				break
			}
			for at := 0; at+(k-1)*step < len(words); at++ {
				var key []byte
				for i := range k {
					key = wordKey(key, words[at+i*step])
				}
				if gram, ok := v.pool[k-1][string(key)]; ok {
					y[v.places[gram]] += v.worth(gram, seen[gram])
					seen[gram] = true
				}
			}
		}
	}
}

// worth is what finding an n-gram adds, again or for the first time.
func (v *vectorizer) worth(gram int64, again bool) float32 {
	switch {
	case v.mode == "TF":
		return 1
	case v.mode == "IDF" && again:
		return 0
	case v.weights == nil:
		return 1
	}
	return v.weights[gram]
}
