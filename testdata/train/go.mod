// A module of its own, so that the fixtures are no part of the program's module, whose users do not download them.
module github.com/cnnkit/cnnkit/testdata/train

go 1.26.0
