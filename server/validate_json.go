package server

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// object checks a JSON object of the caller's, which comes as a Struct or as text, and
// tells whether it is right.
func (v *violations) object(field string, s *structpb.Struct, text string) (ok bool) {
	depth, finite := inspect(structpb.NewStructValue(s), 0)
	flat := depth <= maxDepth && textDepth(text) <= maxDepth
	one, whole := s == nil || text == "", text == "" || !flat || isObject(text)
	v.check(one, field, "set it either as a Struct or as text, not both")
	v.check(whole, field, "must be a JSON object")
	v.check(flat, field, "must be nested at most %d deep", maxDepth)
	v.check(finite, field, "must have no NaN and no infinite number")
	return one && whole && flat && finite
}

// extra checks members that go upstream beside those that are made of the fields
// of m, and beside set, which are made besides.
func (v *violations) extra(m proto.Message, s *structpb.Struct, set ...string) {
	if len(s.GetFields()) > 0 {
		v.object("extra", s, "")
		v.extraNames(m, slices.Sorted(maps.Keys(s.GetFields())), set)
	}
}

// requestExtra checks the extra of a request.
func (v *violations) requestExtra(req *completionv1.CompletionRequest, l *Limits) {
	// A completion is one choice, and always streamed.
	set := []string{"stream", "stream_options"}
	for _, n := range choiceCounts {
		set = append(set, n.name)
	}
	v.extra(req, req.GetExtra(), set...)
	text := req.GetExtraJson()
	right := text == "" || v.object("extra", req.GetExtra(), text)
	if text != "" && right {
		v.extraNames(req, memberNames(text), set)
	}
	if l.MaxTokens > 0 && right {
		v.moreTokens(req, l.MaxTokens)
	}
}

// extraNames checks the names of an extra. A server may take a name in letters of
// another case for its own, as Go's encoding/json does, or the last of two.
func (v *violations) extraNames(m proto.Message, names, set []string) {
	v.check(len(names) <= maxExtra, "extra", "must have at most %d members", maxExtra)
	seen := make(map[string]bool, len(names))
	fields := m.ProtoReflect().Descriptor().Fields()
	for _, name := range names[:min(len(names), maxExtra)] {
		v.name("extra", name)
		if len(name) > maxName {
			continue // it would be in the path
		}
		if seen[name] {
			v.check(false, "extra."+name, "must be there once")
		}
		seen[name] = true
		for i := range fields.Len() {
			if f := fields.Get(i); strings.EqualFold(name, string(f.Name())) || strings.EqualFold(name, f.JSONName()) {
				v.check(false, "extra."+name, "has a field of its own: %s", f.Name())
			}
		}
		if slices.ContainsFunc(set, func(s string) bool { return strings.EqualFold(name, s) }) {
			v.check(false, "extra."+name, "is set here and cannot be changed")
		}
	}
}

// memberNames returns the names of the members of a JSON object that is valid, and
// no more of them than show that there are too many.
func memberNames(text string) []string {
	var names []string
	d := json.NewDecoder(strings.NewReader(text))
	_, _ = d.Token() // the brace
	for d.More() && len(names) <= maxExtra {
		name, _ := d.Token()
		names = append(names, name.(string))
		var skipped json.RawMessage
		_ = d.Decode(&skipped)
	}
	return names
}

func isObject(text string) bool {
	return strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") && json.Valid([]byte(text))
}

// textDepth is how deep a JSON text is nested; it need not be valid.
func textDepth(text string) int {
	deepest, at, inString := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			at++
			deepest = max(deepest, at)
		case c == '}' || c == ']':
			at--
		}
	}
	return deepest
}

// inspect returns how deep a JSON value is nested, and whether all numbers in it are
// finite. There are so many levels above it. It looks no deeper than maxDepth+1.
func inspect(value *structpb.Value, above int) (depth int, finite bool) {
	if above > maxDepth {
		return above, true
	}
	number := value.GetNumberValue()
	depth, finite = above, !math.IsNaN(number) && !math.IsInf(number, 0)
	descend := func(v *structpb.Value) {
		d, f := inspect(v, above+1)
		depth, finite = max(depth, d), finite && f
	}
	for _, member := range value.GetStructValue().GetFields() {
		descend(member)
	}
	for _, element := range value.GetListValue().GetValues() {
		descend(element)
	}
	return depth, finite
}
