package transcode

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/jsonbody"
)

// Binding is how HTTP requests stand for calls of a method: by its own path, or by a rule of
// google.api.http.
type Binding struct {
	Method     *Method
	HTTPMethod string
	Pattern    string // of the path

	variables []variable                   // of the pattern
	wholeBody bool                         // the body is the request message
	body      protoreflect.FieldDescriptor // the field that the body is; nil: none
	answer    protoreflect.FieldDescriptor // the field of the answer that is shown; nil: all
	notQuery  *utilities.DoubleArray       // the fields that query parameters do not set
	query     bool                         // they set others
}

// newBinding returns that of a rule.
func newBinding(m *Method, rule *annotations.HttpRule) (*Binding, error) {
	b := &Binding{Method: m}
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		b.HTTPMethod, b.Pattern = http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		b.HTTPMethod, b.Pattern = http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		b.HTTPMethod, b.Pattern = http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		b.HTTPMethod, b.Pattern = http.MethodDelete, p.Delete
	case *annotations.HttpRule_Patch:
		b.HTTPMethod, b.Pattern = http.MethodPatch, p.Patch
	case *annotations.HttpRule_Custom:
		b.HTTPMethod, b.Pattern = p.Custom.GetKind(), p.Custom.GetPath()
	}
	if !slices.Contains([]string{"GET", "POST", "PUT", "PATCH", "DELETE"}, b.HTTPMethod) {
		return nil, fmt.Errorf("it is for the HTTP method %q", b.HTTPMethod)
	}
	if len(b.Pattern) > maxPattern {
		return nil, fmt.Errorf("its path has more than %d characters", maxPattern)
	}
	input, output := m.desc.Input(), m.desc.Output()
	b.variables = variables(b.Pattern)
	var bound [][]string
	for _, v := range b.variables {
		path := strings.Split(v.field, ".")
		if fieldOf(input, path) == nil {
			return nil, fmt.Errorf("%s has no field %s", input.FullName(), v.field)
		}
		names := fieldNames(input, path)
		if slices.ContainsFunc(bound, func(other []string) bool { return commonPrefix(names, other) }) {
			return nil, fmt.Errorf("its path has %s twice", v.field)
		}
		bound = append(bound, names)
	}
	switch name := rule.GetBody(); name {
	case "*":
		b.wholeBody = true
	case "":
		b.query = true
	default:
		b.query = true
		if b.body = fieldOf(input, []string{name}); b.body == nil {
			return nil, fmt.Errorf("%s has no field %s", input.FullName(), name)
		}
		bound = append(bound, []string{string(b.body.Name())})
	}
	if name := rule.GetResponseBody(); name != "" {
		if b.answer = fieldOf(output, []string{name}); b.answer == nil {
			return nil, fmt.Errorf("%s has no field %s", output.FullName(), name)
		}
	}
	b.notQuery = utilities.NewDoubleArray(bound)
	return b, nil
}

// commonPrefix tells of two paths that one of them begins with the other, or is it.
func commonPrefix(a, b []string) bool {
	n := min(len(a), len(b))
	return slices.Equal(a[:n], b[:n])
}

// maxPattern is the longest path template: with one that names very many fields, the
// gateway's filter of query parameters would take for ever.
const maxPattern = 1000

// fieldOf returns the field at the end of a path of names, or nil if there is none.
func fieldOf(md protoreflect.MessageDescriptor, path []string) protoreflect.FieldDescriptor {
	var fd protoreflect.FieldDescriptor
	for _, name := range path {
		if md == nil {
			return nil
		}
		if fd = md.Fields().ByTextName(name); fd == nil {
			fd = md.Fields().ByJSONName(name)
		}
		if fd == nil || fd.Kind() == 0 { // nobody knows what it is: its type is in a file that is missing
			return nil
		}
		md = fd.Message()
		if fd.IsList() || fd.IsMap() {
			md = nil
		}
	}
	return fd
}

// TakesBody tells whether a request has a body that means something.
func (b *Binding) TakesBody() bool { return b.wholeBody || b.body != nil }

// Request makes a method's request of the parts of an HTTP request. An empty body is the
// same as none.
func (b *Binding) Request(ctx context.Context, d jsonbody.Decoder, body []byte, params map[string]string, rawQuery string) (proto.Message, error) {
	m := dynamicpb.NewMessage(b.Method.desc.Input())
	if len(body) > 0 && b.TakesBody() {
		at := ""
		if b.body != nil {
			at = b.body.JSONName()
		}
		if err := d.DecodeForeign(ctx, body, m, at, b.Method.table.set); err != nil {
			return nil, err
		}
	}
	for name, value := range params {
		if err := setField(m, name, value); err != nil {
			return nil, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "path", "the path has no good %s: %v", name, err)
		}
	}
	if b.query {
		query, err := url.ParseQuery(rawQuery)
		if err != nil { // url.Values would have the rest of it
			return nil, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "query", "the query cannot be read: %v", failure.Clip(err.Error()))
		}
		for key, values := range query {
			if !utf8.ValidString(strings.Join(values, "")) { // which no message can hold
				return nil, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "query", "the query parameter %s is not UTF-8", failure.Clip(key))
			}
		}
		if err := setQuery(m, query, b.notQuery); err != nil {
			return nil, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "query", "the query parameters are not good: %v", err)
		}
	}
	return m, nil
}
