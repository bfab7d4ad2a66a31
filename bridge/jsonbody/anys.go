package jsonbody

import "github.com/go-json-experiment/json/jsontext"

// maxAnys is how deep Anys may be in Anys: for each of them, protojson goes through all that
// it has in it once more.
const maxAnys = 32

// anys counts how deep the Anys of a body are in each other.
type anys struct{ open []level }

// level is an object or an array that is open.
type level struct {
	is   bool // an Any: it has a member "@type", which may be the last
	deep int  // how deep those are that it has had in it
}

// add takes the token that was read last. When an object ends, it returns how deep that is.
func (a *anys) add(token jsontext.Token, tokens *jsontext.Decoder) int {
	switch token.Kind() {
	case '{', '[':
		a.open = append(a.open, level{})
	case '"':
		if kind, n := tokens.StackIndex(tokens.StackDepth()); kind == '{' && n%2 == 1 && token.String() == "@type" {
			a.open[len(a.open)-1].is = true
		}
	case '}', ']':
		last := len(a.open) - 1
		deep := a.open[last].deep
		if a.open[last].is {
			deep++
		}
		if a.open = a.open[:last]; last > 0 {
			a.open[last-1].deep = max(a.open[last-1].deep, deep)
		}
		return deep
	}
	return 0
}
