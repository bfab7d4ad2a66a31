package jsonbody

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-sse/sluice/bridge/failure"
)

// maxDepth bounds how deep a body may be nested: more than the server takes, which
// names the field that is nested too deep.
const maxDepth = 200

// textFactor is how many names and values a text may have in place of each that becomes a
// message. Tools have many: a schema is made of short words.
const textFactor = 3

// scanner goes through a body once, without making anything of it. It checks the
// syntax, and how deep and of how many names and values the body is, and finds what
// protojson is not to see.
type scanner struct {
	body   []byte
	tokens *jsontext.Decoder
	left   int   // how many more names and values there may be, in what becomes messages
	text   int   // and in texts
	anys   *anys // nil: Anys are not counted
	path   []step
	found  []found
	misfit *mistake // the first member in a shape that is not ours
}

// step leads from a message to one in it.
type step struct {
	field protoreflect.FieldDescriptor
	index int // in a list
}

// found is a value that protojson is not to see.
type found struct {
	path       []step // to its message
	field      protoreflect.FieldDescriptor
	start, end int
	value      string
}

func newScanner(body []byte, most int) *scanner {
	return &scanner{body: body, tokens: jsontext.NewDecoder(bytes.NewBuffer(body)), left: most, text: most * textFactor}
}

// scan scans the body, which is one value that a function scans. The error is a *mistake.
func (s *scanner) scan(value func() error) error {
	err := value()
	if err == nil {
		if _, err = s.tokens.ReadToken(); err == io.EOF {
			return nil
		}
		err = cmp.Or(err, errBehind)
	}
	return s.asMistake(err)
}

var errBehind = errors.New("there is more behind the JSON value")

// asMistake says where and how the syntax is wrong, if that is what err says.
func (s *scanner) asMistake(err error) *mistake {
	var m *mistake
	if errors.As(err, &m) {
		return m
	}
	m = s.mistake(int(s.tokens.InputOffset()), "syntax error: "+err.Error())
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		m = s.mistake(min(int(syntax.ByteOffset), len(s.body)), fmt.Sprintf("syntax error in %q: %v", failure.Clip(string(syntax.JSONPointer)), syntax.Err))
	}
	m.syntax = true
	return m
}

func (s *scanner) mistake(offset int, what string) *mistake {
	return &mistake{offset: offset, where: position(s.body, offset), what: what}
}

// message scans a value that is to become a message.
func (s *scanner) message(md protoreflect.MessageDescriptor) error {
	if s.tokens.PeekKind() != '{' || md.FullName().Parent() == "google.protobuf" {
		return s.value(&s.left)
	}
	if err := s.read(&s.left); err != nil {
		return err
	}
	for s.tokens.PeekKind() != '}' {
		before := s.tokens.InputOffset()
		name, err := s.tokens.ReadToken()
		if err != nil {
			return err
		}
		s.left--
		if err := s.member(md, name.String(), s.after(before)); err != nil {
			return err
		}
	}
	return s.read(&s.left)
}

// after returns where the token begins that follows an offset.
func (s *scanner) after(offset int64) int {
	between := bytes.TrimLeft(s.body[offset:], " \t\r\n,:")
	return len(s.body) - len(between)
}

// member scans the value of a member of a message, whose name begins at an offset.
func (s *scanner) member(md protoreflect.MessageDescriptor, name string, at int) error {
	start := s.after(s.tokens.InputOffset())
	kind := s.tokens.PeekKind()
	field := md.Fields().ByJSONName(name)
	if field == nil {
		field = md.Fields().ByTextName(name)
	}
	s.check(md, field, name, kind, at, start)
	switch {
	case field == nil, field.IsMap():
		return s.value(&s.left)
	case field.IsList() && field.Message() != nil && kind == '[':
		return s.list(field)
	case field.IsList() && kind == '"' && field.FullName() == "completion.v1.CompletionRequest.stop":
		return s.hide(field, start, &s.left)
	case twin(field) != nil && kind == '{':
		return s.hide(field, start, &s.text)
	case field.Message() != nil:
		s.path = append(s.path, step{field: field})
		defer s.leave()
		return s.message(field.Message())
	}
	return s.value(&s.left)
}

func (s *scanner) leave() { s.path = s.path[:len(s.path)-1] }

// list scans a list of messages.
func (s *scanner) list(field protoreflect.FieldDescriptor) error {
	if err := s.read(&s.left); err != nil {
		return err
	}
	s.path = append(s.path, step{field: field})
	defer s.leave()
	for i := 0; s.tokens.PeekKind() != ']'; i++ {
		s.path[len(s.path)-1].index = i
		if err := s.message(field.Message()); err != nil {
			return err
		}
	}
	return s.read(&s.left)
}

// twin returns the field that takes the text of a JSON object in place of a field that
// takes a Struct, if there is one.
func twin(field protoreflect.FieldDescriptor) protoreflect.FieldDescriptor {
	if field.Message() == nil || field.Message().FullName() != "google.protobuf.Struct" {
		return nil
	}
	return field.ContainingMessage().Fields().ByName(field.Name() + "_json")
}

// hide scans a value that protojson is not to see.
func (s *scanner) hide(field protoreflect.FieldDescriptor, start int, left *int) error {
	if err := s.value(left); err != nil {
		m := s.asMistake(err)
		m.inText = left == &s.text
		return m
	}
	end := int(s.tokens.InputOffset())
	s.found = append(s.found, found{path: slices.Clone(s.path), field: field, start: start, end: end, value: string(s.body[start:end])})
	return nil
}

// value scans any value.
func (s *scanner) value(left *int) error {
	for depth := s.tokens.StackDepth(); ; {
		if err := s.read(left); err != nil {
			return err
		}
		if s.tokens.StackDepth() <= depth {
			return nil
		}
	}
}

// read reads a token.
func (s *scanner) read(left *int) error {
	token, err := s.tokens.ReadToken()
	if err != nil {
		return err
	}
	if s.anys != nil && s.anys.add(token, s.tokens) > maxAnys {
		return s.mistake(int(s.tokens.InputOffset()), fmt.Sprintf("it is nested too deep: there are more than %d Anys in each other", maxAnys))
	}
	switch token.Kind() {
	case '}', ']':
		return nil
	case '0':
		// What has no end is no number to protojson.
		if f := math.Abs(token.Float()); left == &s.text && f >= math.MaxFloat64 {
			if _, err := strconv.ParseFloat(token.String(), 64); err != nil {
				return s.mistake(int(s.tokens.InputOffset()), "the number is too large")
			}
		}
	}
	*left--
	switch {
	case *left < 0:
		return s.mistake(int(s.tokens.InputOffset()), "it is made of too many names and values")
	case s.tokens.StackDepth() > maxDepth:
		return s.mistake(int(s.tokens.InputOffset()), fmt.Sprintf("it is nested too deep: at most %d deep", maxDepth))
	}
	return nil
}

// blank returns the body before an offset as protojson is to see it: what was found is
// empty, and all else stands in the line and the column where it stood. The body is
// used up.
func (s *scanner) blank(before int) []byte {
	if len(s.found) == 0 {
		return s.body[:before]
	}
	blank, at := s.body[:0], 0
	for _, f := range s.found {
		left, right := byte('{'), byte('}')
		if f.field.IsList() {
			left, right = '[', ']'
		}
		blank = append(append(blank, s.body[at:f.start]...), left)
		for _, c := range s.body[f.start+1 : f.end-1] {
			switch {
			case c == '\n':
				blank = append(blank, c)
			case utf8.RuneStart(c): // a column is a character
				blank = append(blank, ' ')
			}
		}
		blank = append(blank, right)
		at = f.end
	}
	return append(blank, s.body[at:before]...)
}

// set puts what was found into the message.
func (s *scanner) set(root protoreflect.Message) error {
	for _, f := range s.found {
		m := root
		for _, step := range f.path {
			value := m.Get(step.field)
			if step.field.IsList() {
				m = value.List().Get(step.index).Message()
			} else {
				m = value.Message()
			}
		}
		if f.field.IsList() {
			text, err := jsontext.AppendUnquote(nil, f.value)
			if err != nil {
				return err
			}
			m.Mutable(f.field).List().Append(protoreflect.ValueOfString(string(text)))
			continue
		}
		text := twin(f.field)
		if m.Has(text) {
			return fmt.Errorf("send either %s or %s, not both", f.field.JSONName(), text.JSONName())
		}
		m.Clear(f.field)
		m.Set(text, protoreflect.ValueOfString(f.value))
	}
	return nil
}

// check notes the first member that is not ours, or not in its shape. One that a
// completion request does not have may be one of the upstream's.
func (s *scanner) check(md protoreflect.MessageDescriptor, field protoreflect.FieldDescriptor, name string, kind jsontext.Kind, at, value int) {
	if s.misfit != nil || field != nil && kind == usual(field) {
		return
	}
	member := name
	if field != nil {
		member = string(field.Name())
	}
	switch instead := insteadOf(md.FullName(), member, kind); {
	case instead != "" && field != nil:
		s.misfit = s.mistake(value, fmt.Sprintf("unexpected value of %q, which begins %s: %s", name, s.excerpt(value), instead))
	case instead != "":
		s.misfit = s.mistake(at, fmt.Sprintf("unknown field %q: %s", name, instead))
	case field == nil && md.FullName() == ofRequest:
		s.misfit = s.mistake(at, fmt.Sprintf("unknown field %q: what the upstream alone knows goes into \"extra\"", failure.Clip(name)))
	}
}

// usual returns the kind of JSON value that a field takes, or 0 for one that takes
// several.
func usual(field protoreflect.FieldDescriptor) jsontext.Kind {
	switch {
	case field.IsList():
		return '['
	case field.Message() != nil:
		return '{'
	case field.Kind() == protoreflect.StringKind:
		return '"'
	}
	return 0
}

// excerpt is how a value begins.
func (s *scanner) excerpt(start int) string {
	return strings.ToValidUTF8(string(s.body[start:min(start+16, len(s.body))]), "")
}
