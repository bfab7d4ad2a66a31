package transcode

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
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
	input, output := m.desc.Input(), m.desc.Output()
	var bound [][]string
	for _, variable := range variables(b.Pattern) {
		path := strings.Split(variable, ".")
		if fieldOf(input, path) == nil {
			return nil, fmt.Errorf("%s has no field %s", input.FullName(), variable)
		}
		bound = append(bound, path)
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
		bound = append(bound, []string{name})
	}
	if name := rule.GetResponseBody(); name != "" {
		if b.answer = fieldOf(output, []string{name}); b.answer == nil {
			return nil, fmt.Errorf("%s has no field %s", output.FullName(), name)
		}
	}
	b.notQuery = utilities.NewDoubleArray(bound)
	return b, nil
}

// variables lists the fields that a path template names.
func variables(pattern string) []string {
	var names []string
	for _, part := range strings.Split(pattern, "{")[1:] {
		name, _, _ := strings.Cut(part, "}")
		name, _, _ = strings.Cut(name, "=")
		names = append(names, strings.TrimSpace(name))
	}
	return names
}

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
		if fd == nil {
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
func (b *Binding) Request(ctx context.Context, d jsonbody.Decoder, body []byte, params map[string]string, query url.Values) (proto.Message, error) {
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
		if err := setQuery(m, query, b.notQuery); err != nil {
			return nil, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "query", "the query parameters are not good: %v", err)
		}
	}
	return m, nil
}

// setField sets a field by its path. The gateway's code knows only enums that are linked in.
func setField(m protoreflect.Message, path, value string) error {
	names := strings.Split(path, ".")
	if fd := fieldOf(m.Descriptor(), names); fd != nil && fd.Enum() != nil {
		return setEnums(m, names, []string{value})
	}
	return runtime.PopulateFieldFromPath(m.Interface(), path, value)
}

// setQuery sets the fields that query parameters name.
func setQuery(m protoreflect.Message, query url.Values, not *utilities.DoubleArray) error {
	rest := url.Values{}
	for key, values := range query {
		names := strings.Split(key, ".")
		fd := fieldOf(m.Descriptor(), names)
		if fd == nil || fd.Enum() == nil {
			rest[key] = values
			continue
		}
		md := m.Descriptor()
		for i := range names { // as the filter has them
			field := fieldOf(md, names[i:i+1])
			names[i], md = string(field.Name()), field.Message()
		}
		if not.HasCommonPrefix(names) {
			continue
		}
		if err := setEnums(m, names, values); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return runtime.PopulateQueryParameters(m.Interface(), rest, not)
}

// setEnums sets a field that is an enum, or a list of them, of one value or several.
func setEnums(m protoreflect.Message, path []string, values []string) error {
	for _, name := range path[:len(path)-1] {
		m = m.Mutable(fieldOf(m.Descriptor(), []string{name})).Message()
	}
	fd := fieldOf(m.Descriptor(), path[len(path)-1:])
	if !fd.IsList() && len(values) != 1 || fd.IsMap() {
		return errors.New("there is more than one value")
	}
	if m.Has(fd) || fd.ContainingOneof() != nil && m.WhichOneof(fd.ContainingOneof()) != nil {
		return errors.New("it is set already")
	}
	for _, value := range values {
		number, err := enumNumber(fd.Enum(), value)
		if err != nil {
			return err
		}
		if fd.IsList() {
			m.Mutable(fd).List().Append(protoreflect.ValueOfEnum(number))
			continue
		}
		m.Set(fd, protoreflect.ValueOfEnum(number))
	}
	return nil
}

// enumNumber returns the number that a value's name, or the number itself, stands for.
func enumNumber(ed protoreflect.EnumDescriptor, value string) (protoreflect.EnumNumber, error) {
	if v := ed.Values().ByName(protoreflect.Name(value)); v != nil {
		return v.Number(), nil
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no value of %s", failure.Clip(value), ed.FullName())
	}
	return protoreflect.EnumNumber(n), nil
}
