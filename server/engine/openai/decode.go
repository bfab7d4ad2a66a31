package openai

import (
	"bytes"
	"encoding/json"
	"errors"
)

var errNotObject = errors.New("not a JSON object")

// decodeChunk decodes a chunk, which has no white space around it. A member of an
// unexpected type is left out, unless it is of one that lenient.go knows.
func decodeChunk(data []byte) (*wireChunk, error) {
	if !bytes.HasPrefix(data, []byte("{")) {
		return nil, errNotObject
	}
	c := new(wireChunk)
	wrongType, err := unmarshalLeniently(data, c)
	if malformed := (*json.SyntaxError)(nil); errors.As(err, &malformed) {
		if repaired := replaceNaN(data); repaired != nil {
			data, c = repaired, new(wireChunk)
			wrongType, err = unmarshalLeniently(data, c)
		}
	}
	if err != nil {
		return nil, err
	}
	c.decodeRare(data, wrongType)
	return c, nil
}

// unmarshalLeniently is json.Unmarshal without the error of a member that does not have
// the type of its field: encoding/json has left it out, and decoded all the others.
func unmarshalLeniently(data []byte, v any) (wrongType bool, err error) {
	err = json.Unmarshal(data, v)
	if typeError := (*json.UnmarshalTypeError)(nil); errors.As(err, &typeError) {
		return true, nil
	}
	return false, err
}

// replaceNaN returns data with null for each NaN and Infinity outside strings, which
// Python's json module writes, and which are not JSON; or nil if there is none.
func replaceNaN(data []byte) []byte {
	var repaired []byte
	done, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case quoted || c != 'N' && c != 'I' && c != '-':
		default:
			for _, literal := range []string{"NaN", "Infinity", "-Infinity", "-NaN"} {
				if bytes.HasPrefix(data[i:], []byte(literal)) {
					repaired = append(append(repaired, data[done:i]...), "null"...)
					i += len(literal) - 1
					done = i + 1
					break
				}
			}
		}
	}
	if repaired == nil {
		return nil
	}
	return append(repaired, data[done:]...)
}
