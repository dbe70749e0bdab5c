// A module of its own, so that the trained models are no part of the program's module, whose users do not download them.
module github.com/cnnkit/cnnkit/models

go 1.26.0
