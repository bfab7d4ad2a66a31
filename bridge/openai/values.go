package openai

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/jsonbody"
)

// decode makes a body of the JSON of a request, within bounds.
func decode(ctx context.Context, d jsonbody.Decoder, body []byte, of endpoint, into any) error {
	return invalid(d.Bounded(ctx, body, of.isText, func() error {
		err := json.Unmarshal(body, into)
		if err != nil {
			return explain(err)
		}
		return nil
	}))
}

// isText tells which parameters stay the text that they are, for the most part, and so
// take little memory: schemas, and what goes upstream as it is.
func (e endpoint) isText(param string) bool {
	p := find(param, e)
	return param == "tools" || param == "response_format" || param == "text" || p.name == "" || p.use == passedOn
}

// explain says in the words of this API why a body cannot be decoded.
func explain(err error) error {
	var m *mistake
	var semantic *json.SemanticError
	switch {
	case !errors.As(err, &semantic):
		return err
	case errors.As(semantic.Err, &m):
		return in(paramAt(semantic.JSONPointer), m)
	case semantic.GoType == nil:
		return wrong("", "%v", semantic.Err)
	}
	return &mistake{paramAt(semantic.JSONPointer), "must be " + nameOf(semantic.GoType)}
}

// paramAt returns a place in a body as this API names it: messages[0].content.
func paramAt(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		if _, err := strconv.Atoi(token); err == nil {
			fmt.Fprintf(&b, "[%s]", token)
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(failure.Clip(token))
	}
	return b.String()
}

// nameOf says what a value must be that is to become of a type.
func nameOf(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int32, reflect.Int64:
		return "a whole number, in digits"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}

// texts is a string, or a list of them.
type texts []string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *texts) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case '"':
		token, err := d.ReadToken()
		*t = texts{token.String()}
		return err
	case '[', 'n':
		return json.UnmarshalDecode(d, (*[]string)(t))
	}
	return wrong("", "must be a string or a list of strings")
}

// prompt is a text to continue.
type prompt string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (p *prompt) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case '"':
		token, err := d.ReadToken()
		*p = prompt(token.String())
		return err
	case '[':
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		var list []string
		if json.Unmarshal(value, &list) == nil && len(list) == 1 {
			*p = prompt(list[0])
			return nil
		}
	}
	return wrong("", "must be one text: several prompts are several requests, and tokens cannot be had")
}

// duration is one of this server's own, as proto3 JSON has it: "30s".
type duration struct{ d *durationpb.Duration }

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *duration) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	t.d = &durationpb.Duration{}
	if protojson.Unmarshal(value, t.d) != nil || t.d.AsDuration() < 0 {
		return wrong("", `must be a duration such as "30s"`)
	}
	return nil
}

func (t *duration) toMessage() *durationpb.Duration {
	if t == nil {
		return nil
	}
	return t.d
}

// anyValue is any JSON value.
type anyValue struct{ value *structpb.Value }

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (v *anyValue) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	return v.set(value)
}

func (v *anyValue) set(value jsontext.Value) error {
	v.value = &structpb.Value{}
	if err := (protojson.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(value, v.value); err != nil {
		return wrong("", "is nested too deep, or has a number that is too large")
	}
	return nil
}

// maxNesting is how deep messages may be nested that a value becomes, of which each list
// and each object is several. The server bounds it more closely.
const maxNesting = 1000

func (v *anyValue) toValue() *structpb.Value {
	if v == nil {
		return nil
	}
	return v.value
}

// textOf returns a text that may be absent.
func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
