package main

// optionalText is the value of a flag that may stand alone, or with a text behind "=".
type optionalText struct {
	set  bool
	text string
}

// Set takes what package flag gives: "true" for a flag that stands alone.
func (o *optionalText) Set(text string) error {
	o.set = text != "false"
	if o.text = ""; text != "true" && text != "false" {
		o.text = text
	}
	return nil
}

func (o *optionalText) String() string { return o.text }

// IsBoolFlag tells package flag that the flag may stand alone.
func (o *optionalText) IsBoolFlag() bool { return true }
