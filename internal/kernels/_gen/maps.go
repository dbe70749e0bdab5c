package main

func (g *gen) maps() {}
func (g *gen) flat() {}
