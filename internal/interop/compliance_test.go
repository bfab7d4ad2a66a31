package interop

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The showcase's own suite: each message comes back as it was sent, by whatever route: in the
// body, in the query, in the path. The server looks whether it has got what the suite says,
// and its REST face answers the same.
func TestCompliance(t *testing.T) {
	s := startServers(t)
	bridge := startBridge(t, "--server="+s.Showcase, "--expose=*")
	suite := s.message(t, "google.showcase.v1beta1.ComplianceSuite", string(s.Suite))
	tried := 0
	for group := range list(suite, "group") {
		for rpc := range list(group.Message(), "rpcs") {
			service, method, _ := strings.Cut(rpc.String(), ".")
			d, err := s.files.FindDescriptorByName(protoreflect.FullName("google.showcase.v1beta1." + service + "." + method))
			if err != nil {
				t.Fatal(err)
			}
			for request := range list(group.Message(), "requests") {
				m := proto.Clone(request.Message().Interface()).ProtoReflect()
				fields := m.Descriptor().Fields()
				if m.Has(fields.ByName("intended_binding_uri")) { // of which the server knows nothing over gRPC
					m.Clear(fields.ByName("server_verify"))
				}
				routes := s.repeat(t, d.(protoreflect.MethodDescriptor), m, bridge, "http://"+s.ShowcaseHTTP)
				if routes == 0 {
					t.Errorf("%s has no route for %s", rpc, s.json(t, m.Interface()))
				}
				tried += routes
			}
		}
	}
	if tried < 50 {
		t.Errorf("the suite has %d requests", tried)
	}
}

// list ranges over a list that is a field.
func list(m protoreflect.Message, name protoreflect.Name) func(func(protoreflect.Value) bool) {
	values := m.Get(m.Descriptor().Fields().ByName(name)).List()
	return func(yield func(protoreflect.Value) bool) {
		for i := range values.Len() {
			if !yield(values.Get(i)) {
				return
			}
		}
	}
}

// repeat sends a message by each of a method's routes that can hold it, to each of some
// faces of the showcase, and returns by how many.
func (s *servers) repeat(t *testing.T, method protoreflect.MethodDescriptor, m protoreflect.Message, faces ...string) (routes int) {
	t.Helper()
	rule := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	for _, rule := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		request, ok := s.request(t, rule, m)
		if !ok {
			continue
		}
		routes++
		for _, face := range faces {
			a := ask(t, face, request, nil)
			if a.status != 200 {
				t.Errorf("%s\n%s: %d %s", request, face, a.status, a.body)
				continue
			}
			answered := s.message(t, "google.showcase.v1beta1.RepeatResponse", a.messages[0])
			repeated := answered.Get(answered.Descriptor().Fields().ByName("request")).Message()
			if !proto.Equal(repeated.Interface(), m.Interface()) {
				t.Errorf("%s\n%s: %s\nwant %s", request, face, s.json(t, repeated.Interface()), s.json(t, m.Interface()))
			}
		}
	}
	return routes
}

var templateVariable = regexp.MustCompile(`\{([a-z0-9_.]+)(?:=([^}]*))?\}`)

// request makes an HTTP request of a message as google/api/http.proto has it, unless the
// route cannot hold it.
func (s *servers) request(t *testing.T, rule *annotations.HttpRule, m protoreflect.Message) (request string, ok bool) {
	t.Helper()
	method, path := "", ""
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		method, path = "GET", p.Get
	case *annotations.HttpRule_Put:
		method, path = "PUT", p.Put
	case *annotations.HttpRule_Post:
		method, path = "POST", p.Post
	case *annotations.HttpRule_Patch:
		method, path = "PATCH", p.Patch
	}
	leaves := map[string]string{}
	addLeaves(leaves, "", m)
	ok = true
	path = templateVariable.ReplaceAllStringFunc(path, func(variable string) string {
		parts := templateVariable.FindStringSubmatch(variable)
		value, set := leaves[parts[1]]
		if !set {
			value = defaultOf(m, strings.Split(parts[1], "."))
		}
		delete(leaves, parts[1])
		if value == "" || value == "." || value == ".." { // which are no segments of a path
			ok = false
		}
		segments := parts[2]
		if segments == "" {
			segments = "*"
		}
		if segments == "*" {
			return escape(value, "")
		}
		like := strings.ReplaceAll(strings.ReplaceAll(regexp.QuoteMeta(segments), `\*\*`, ".*"), `\*`, "[^/]+")
		ok = ok && regexp.MustCompile("^"+like+"$").MatchString(value)
		return escape(value, "/")
	})
	body := ""
	switch name := rule.GetBody(); name {
	case "":
	case "*":
		return method + " " + path + "\n\n" + s.json(t, m.Interface()), ok
	default:
		field := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if m.Has(field) {
			body = s.json(t, m.Get(field).Message().Interface())
		}
		for leaf := range leaves {
			if strings.HasPrefix(leaf, name+".") {
				delete(leaves, leaf)
			}
		}
	}
	query := url.Values{}
	for leaf, value := range leaves {
		names := strings.Split(leaf, ".")
		d := m.Descriptor()
		for i, name := range names {
			field := d.Fields().ByName(protoreflect.Name(name))
			names[i], d = field.JSONName(), field.Message()
		}
		query.Set(strings.Join(names, "."), value)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return method + " " + path + "\n\n" + body, ok
}

// addLeaves adds the fields that are set, as text.
func addLeaves(leaves map[string]string, prefix string, m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := prefix + string(field.Name())
		if field.Message() != nil {
			addLeaves(leaves, name+".", value.Message())
		} else {
			leaves[name] = textOf(field, value)
		}
		return true
	})
}

// defaultOf is the text of a field that is not set.
func defaultOf(m protoreflect.Message, path []string) string {
	d := m.Descriptor()
	var field protoreflect.FieldDescriptor
	for _, name := range path {
		field = d.Fields().ByName(protoreflect.Name(name))
		d = field.Message()
	}
	return textOf(field, field.Default())
}

// textOf is a value as JSON has it, without quotes.
func textOf(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	switch {
	case field.Kind() == protoreflect.StringKind:
		return value.String()
	case field.Enum() != nil:
		if named := field.Enum().Values().ByNumber(value.Enum()); named != nil {
			return string(named.Name())
		}
		return fmt.Sprint(value.Enum())
	case field.Kind() == protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(value.Bytes())
	}
	text := fmt.Sprint(value.Interface())
	return strings.TrimPrefix(strings.ReplaceAll(text, "Inf", "Infinity"), "+")
}

// escape escapes all but what http.proto says.
func escape(value, but string) string {
	unreserved := []byte("-_.~" + but)
	var b strings.Builder
	for _, c := range []byte(value) {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || slices.Contains(unreserved, c) {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
