package engine

// bytePaths is the table of fast paths of operators whose first input is bytes, see paths.
var bytePaths map[[2]string]*path

func init() {
	inBytes := func(in, out []int) func(*op) maps {
		return func(*op) maps { return maps{in: in, out: out, from: bytesForm, to: bytesForm, bytes: true} }
	}
	one := inBytes([]int{0}, []int{0})
	product := path{accepts: integerGemm, takes: stageLevels, lower: (*lowering).gemmInt8}
	view := &path{view: true}
	bytePaths = map[[2]string]*path{
		{"", "DequantizeLinear"}: {accepts: dequantizesMap, maps: dequantizedMaps, bytes: dequantizes,
			lower: (*lowering).dequantize},

		{"", "QLinearConv"}: {accepts: integerConv, maps: one, halo: haloInteger, padding: 2,
			padded: true, takes: stageLevels,
			lower: (*lowering).convInt8},
		{microsoft, "QLinearConv"}: {accepts: integerConv, maps: one, halo: haloInteger, padding: 2,
			takes: stageLevels, // its channels may be last, where pads are of other axes
			lower: (*lowering).convInt8},
		{microsoft, "QGemm"}:  &product,
		{"", "QLinearMatMul"}: &product,
		{"", "MatMulInteger"}: {lower: (*lowering).matMulSums},
		{"", "ConvInteger"}:   {lower: (*lowering).convSums},

		{microsoft, "QLinearAdd"}: {accepts: integerAdd, maps: pairMaps, takes: stageLevels,
			lower: (*lowering).addBytes},
		{microsoft, "QLinearMul"}: {accepts: integerMul, maps: pairMaps, lower: (*lowering).mulBytes},

		{"", "MaxPool"}: {accepts: integerPool, maps: one,
			lower: (*lowering).poolInt8},
		{microsoft, "QLinearAveragePool"}: {accepts: integerPool, maps: one,
			lower: (*lowering).poolInt8},
		{microsoft, "QLinearGlobalAveragePool"}: {accepts: integerPool, maps: one,
			lower: (*lowering).poolInt8},

		{bytesDomain, "Table"}: {accepts: anyMap, maps: followsBytes, lower: (*lowering).lookUp},
		{"", "Clip"}: {accepts: clipsBytes, maps: followsBytes, lower: (*lowering).lookUp, bytes: moves,
			stage: func(o *op) stages {
				if clipsBytes(o) {
					return stageLevels
				}
				return 0
			}},
		{"", "Concat"}: {accepts: joinsBytes, maps: joinedBytes, lower: (*lowering).joinBytes},

		{microsoft, "QLinearSigmoid"}:   {integer: selfTable},
		{microsoft, "QLinearLeakyRelu"}: {integer: selfTable},

		{"", "Reshape"}:   view,
		{"", "Flatten"}:   view,
		{"", "Squeeze"}:   view,
		{"", "Unsqueeze"}: view,
		{"", "Identity"}:  {view: true, same: true, passes: passesFirst},
	}
	paths[[2]string{microsoft, "QLinearConcat"}] = &path{integer: concatTables} // its first input is a scale
	paths[[2]string{microsoft, "QuantizeLinear"}] = paths[[2]string{"", "QuantizeLinear"}]
	bytePaths[[2]string{microsoft, "DequantizeLinear"}] = bytePaths[[2]string{"", "DequantizeLinear"}]
}

func anyMap(*op) bool { return true }

// followsBytes is the form of functions of one byte: lines where the input is in lines, else plain.
func followsBytes(o *op) maps {
	if !o.in[0].isByte4() || o.in[0].size() == 0 || o.in[0].twin(bytesForm) == nil &&
		o.in[0].form() != bytesForm ||
		o.in[0].lanes() == pixelLanes {
		return maps{}
	}
	return maps{in: []int{0}, out: []int{0}, from: bytesForm, to: bytesForm, bytes: true}
}
