package data

import (
	"path/filepath"
	"slices"
)

// remote is a file as the place that publishes a data set has it.
type remote struct {
	file  string
	bases []string // addresses of the folders that have it, in the order in which they are tried
	size  int64
	// of an algorithm that its length tells: SHA-256, or MD5 where nothing better is
	// published; "" is unpinned
	hash  string
	strip string // of an archive: the folder that it has around the files, which is left away
}

// archive says that the file is to be unpacked.
func (r remote) archive() bool { return isTarGz(r.file) || isZip(r.file) }

var (
	mnistPlaces = []string{"https://ossci-datasets.s3.amazonaws.com/mnist/",
		"https://storage.googleapis.com/cvdf-datasets/mnist/"}
	zalando = []string{"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
		"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"}
	toronto = []string{"https://www.cs.toronto.edu/~kriz/"}
	oxford  = []string{"https://www.robots.ox.ac.uk/~vgg/data/pets/data/",
		"https://thor.robots.ox.ac.uk/datasets/pets/"}
)

// remotes are the data sets that can be fetched. Hashes: of MNIST and of CIFAR-10's files those of the
// originals; of Fashion-MNIST and the CIFAR archives those that agree with the MD5 on the sets' own pages; of
// the pets the MD5 that torchvision pins.
var remotes = map[string][]remote{
	"mnist": {
		{"train-images-idx3-ubyte.gz", mnistPlaces, 9912422,
			"440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", ""},
		{"train-labels-idx1-ubyte.gz", mnistPlaces, 28881,
			"3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", ""},
		{"t10k-images-idx3-ubyte.gz", mnistPlaces, 1648877,
			"8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", ""},
		{"t10k-labels-idx1-ubyte.gz", mnistPlaces, 4542,
			"f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", ""},
	},
	"fashion-mnist": {
		{"train-images-idx3-ubyte.gz", zalando, 26421880,
			"3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", ""},
		{"train-labels-idx1-ubyte.gz", zalando, 29515,
			"a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", ""},
		{"t10k-images-idx3-ubyte.gz", zalando, 4422102,
			"346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", ""},
		{"t10k-labels-idx1-ubyte.gz", zalando, 5148,
			"67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", ""},
	},
	"cifar10": {
		{"cifar-10-binary.tar.gz", toronto, 170052171,
			"c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", "cifar-10-batches-bin"},
	},
	"cifar100": {
		{"cifar-100-binary.tar.gz", toronto, 168513733,
			"58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", "cifar-100-binary"},
	},
	"pets": {
		{"images.tar.gz", oxford, 791918971, "5c4f3ee8e5d25df40f4fd59a7f44e54c", ""},
		{"annotations.tar.gz", oxford, 19173078, "95a8c909bbe2e81eed6a22bccdf3f68f", ""},
	},
}

// unpacked are the hashes of files that come out of archives.
var unpacked = map[string][]remote{
	"cifar10": {
		{file: "data_batch_1.bin", size: 30730000,
			hash: "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"},
		{file: "data_batch_2.bin", size: 30730000,
			hash: "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"},
		{file: "data_batch_3.bin", size: 30730000,
			hash: "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"},
		{file: "data_batch_4.bin", size: 30730000,
			hash: "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"},
		{file: "data_batch_5.bin", size: 30730000,
			hash: "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"},
		{file: "test_batch.bin", size: 30730000,
			hash: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"},
	},
	"cifar100": {
		{file: "train.bin", size: 153700000,
			hash: "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"},
		{file: "test.bin", size: 30740000,
			hash: "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"},
	},
}

// pinned are the files of a data set whose hashes are known, as they lie in its folder.
func pinned(name string) []remote {
	if files, ok := unpacked[name]; ok {
		return files
	}
	return slices.DeleteFunc(slices.Clone(remotes[name]), remote.archive)
}

// pickled are the hashes of the Python versions' files: the MD5 that torchvision pins.
var pickled = map[string][]remote{
	"cifar10": {
		{file: "data_batch_1", hash: "c99cafc152244af753f735de768cd75f"},
		{file: "data_batch_2", hash: "d4bba439e000b95fd0a9bffe97cbabec"},
		{file: "data_batch_3", hash: "54ebc095f3ab1f0389bbae665268c751"},
		{file: "data_batch_4", hash: "634d18415352ddfa80567beed471001a"},
		{file: "data_batch_5", hash: "482c414d41f54cd18b22e5b47cb7c3cb"},
		{file: "test_batch", hash: "40351d587109b95175f43aff81a1287e"},
		{file: "batches.meta", hash: "5ff9c542aee3614f3951f8cda6e48888"},
	},
	"cifar100": {
		{file: "train", hash: "16019d7e3df5f24257cddd939b257f8d"},
		{file: "test", hash: "f0ef6b0ae62326f3e7ffdfab6717acfc"},
		{file: "meta", hash: "7973b15100ade9c7d40fb424638fde48"},
	},
}

// pinnedIn is pinned for the form of the set that lies in a folder: none are known of images in folders.
func pinnedIn(name, dir string) []remote {
	files, ok := pickled[name]
	if !ok || exists(filepath.Join(dir, unpacked[name][0].file)) ||
		exists(filepath.Join(dir, unpacked[name][0].file+".xz")) {
		return pinned(name)
	}
	if isDir(filepath.Join(dir, "train")) {
		return nil
	}
	return files
}

// Fetchable says that Get can fetch the data set.
func Fetchable(name string) bool { return len(remotes[family(name)]) > 0 }

// family is the folder's name of a data set: pets-breeds lies where pets do.
func family(name string) string {
	for _, s := range all() {
		if s.name == name {
			return s.folder
		}
	}
	return name
}
