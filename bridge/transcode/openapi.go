package transcode

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// object is one of JSON's.
type object = map[string]any

// OpenAPI returns the description of an API in OpenAPI 3.1, and of what is exposed beside it.
// It is made once: a table always has the same one.
func (t *Table) OpenAPI(own string) []byte {
	t.describe.Do(func() { t.described = describe(t, own) })
	return t.described
}

// describe adds the paths and the schemas of a table to a description.
func describe(t *Table, own string) []byte {
	var document struct {
		Paths      object `json:"paths"`
		Components object `json:"components"`
		Tags       []any  `json:"tags"`
	}
	all := object{}
	if json.Unmarshal([]byte(own), &document) != nil || json.Unmarshal([]byte(own), &all) != nil {
		return []byte(own) // it is embedded, and good
	}
	s := &schemas{all: document.Components["schemas"].(object), names: map[protoreflect.FullName]string{}}
	s.all["MethodError"] = methodError
	tagged := map[string]bool{}
	paths, ids := newDocumentedPaths(document.Paths), t.operationIDs()
	for _, b := range t.byPrecedence() {
		if !b.Method.Supported {
			continue
		}
		path, ok := paths.add(b)
		if !ok {
			continue
		}
		operations, ok := document.Paths[path].(object)
		if !ok {
			operations = object{}
			document.Paths[path] = operations
		}
		method := strings.ToLower(b.HTTPMethod)
		if operations[method] != nil { // a route of our own, or one that comes before
			continue
		}
		operations[method] = b.operation(s, ids[b], path)
		service := b.Method.desc.Parent()
		if name := string(service.FullName()); !tagged[name] {
			tagged[name] = true
			document.Tags = append(document.Tags, object{"name": name, "description": comment(service)})
		}
	}
	s.complete()
	document.Components["responses"].(object)["MethodError"] = object{
		"description": "Why not: the status that the method has failed with.",
		"content":     object{jsonType: object{"schema": reference("MethodError")}},
	}
	all["paths"], all["components"], all["tags"] = document.Paths, document.Components, document.Tags
	described, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return []byte(own)
	}
	return append(described, '\n')
}

// byPrecedence lists bindings in the order in which they are asked whether a request is
// theirs.
func (t *Table) byPrecedence() []*Binding {
	all := slices.Clone(t.bindings)
	slices.Reverse(all) // of the rules, the mux asks that first which was registered last
	slices.SortStableFunc(all, func(a, b *Binding) int {
		switch aOwn, bOwn := t.byPath[a.Method.Path] == a, t.byPath[b.Method.Path] == b; {
		case aOwn == bOwn:
			return 0
		case aOwn:
			return -1
		}
		return 1
	})
	return all
}

var methodError = object{
	"type": "object", "required": []string{"error"},
	"properties": object{
		"error": object{
			"type": "object", "required": []string{"code", "status", "message", "details"},
			"properties": object{
				"code":    object{"type": "integer", "description": "The HTTP status."},
				"status":  object{"type": "string", "description": "The name of the gRPC code."},
				"message": object{"type": "string"},
				"details": object{"type": "array", "items": anySchema},
			},
		},
		"trailers": trailersSchema,
	},
}

var trailersSchema = object{
	"type":                 "object",
	"description":          "By their names, in lower case; those that end in -bin are in base64.",
	"additionalProperties": object{"type": "array", "items": object{"type": "string"}},
}

// operation describes what a binding does.
func (b *Binding) operation(s *schemas, id, path string) object {
	m := b.Method.desc
	operation := object{
		"operationId": id,
		"summary":     string(m.Name()),
		"tags":        []string{string(m.Parent().FullName())},
		"description": comment(m),
		"responses": object{
			"200":     b.response(s),
			"default": object{"$ref": "#/components/responses/MethodError"},
		},
	}
	if parameters := b.parameters(s, path); len(parameters) > 0 {
		operation["parameters"] = parameters
	}
	if b.TakesBody() {
		schema := s.message(m.Input())
		if b.body != nil {
			schema = s.field(b.body)
		}
		operation["requestBody"] = object{"content": object{jsonType: object{"schema": schema}}}
	}
	return operation
}

// response describes what a binding answers.
func (b *Binding) response(s *schemas) object {
	output := b.Method.desc.Output()
	schema := s.message(output)
	if b.answer != nil {
		schema = s.field(b.answer)
	}
	switch {
	case b.Method.Streams:
		return object{"description": "The messages of the method, and how it ended.", "content": object{"text/event-stream": object{"schema": streamOf(schema)}}}
	case output.FullName() == "google.api.HttpBody" && b.answer == nil:
		return object{"description": "What the method has answered, as it is.", "content": object{"*/*": object{}}}
	}
	return object{"description": "What the method has answered.", "content": object{jsonType: object{"schema": schema}}}
}

// streamOf describes an event stream of messages.
func streamOf(message object) object {
	block := func(event string, data object) object {
		return object{
			"type": "object", "required": []string{"event", "data"},
			"properties": object{
				"event": object{"const": event},
				"data":  object{"type": "string", "contentMediaType": jsonType, "contentSchema": data},
			},
		}
	}
	return object{
		"type":             "string",
		"description":      "Blocks of server-sent events: messages, and then exactly one that is finished or error. A stream without one of these was cut.",
		"contentMediaType": "text/event-stream",
		"contentSchema": object{"type": "array", "items": object{"oneOf": []object{
			block("message", message),
			block("finished", object{"type": "object", "required": []string{"trailers"}, "properties": object{"trailers": trailersSchema}}),
			block("error", reference("MethodError")),
		}}},
	}
}

// parameters describes what a binding takes of the path, as that is documented, and the
// query.
func (b *Binding) parameters(s *schemas, path string) []object {
	all := b.pathParameters(s, path)
	input := b.Method.desc.Input()
	bound := map[string]bool{}
	for _, v := range b.variables {
		bound[strings.Join(fieldNames(input, strings.Split(v.field, ".")), ".")] = true
	}
	if !b.query || b.HTTPMethod == http.MethodPost && b.wholeBody {
		return all
	}
	if b.body != nil {
		bound[string(b.body.Name())] = true
	}
	return append(all, queryParameters(s, input, bound)...)
}

// How deep the fields are that are described as query parameters, and how many of a route:
// messages that hold messages, perhaps themselves, have no end of them.
const (
	maxQueryDepth      = 3
	maxQueryParameters = 100
)

func queryParameters(s *schemas, input protoreflect.MessageDescriptor, bound map[string]bool) []object {
	type nested struct {
		prefix string
		md     protoreflect.MessageDescriptor
		depth  int
	}
	var all []object
	for queue := []nested{{md: input}}; len(queue) > 0; queue = queue[1:] {
		in := queue[0]
		for i := 0; i < in.md.Fields().Len() && len(all) < maxQueryParameters; i++ {
			fd := in.md.Fields().Get(i)
			name := in.prefix + string(fd.Name())
			switch {
			case bound[name] || fd.IsMap() || fd.IsList() && fd.Message() != nil:
			case fd.Message() != nil && wellKnown(fd.Message()) == nil:
				if in.depth < maxQueryDepth && len(queue) < maxQueryParameters {
					queue = append(queue, nested{name + ".", fd.Message(), in.depth + 1})
				}
			default:
				all = append(all, object{"name": name, "in": "query", "description": comment(fd), "schema": s.field(fd)})
			}
		}
	}
	return all
}

// comment is what a file's source says of something, if the descriptors have that.
func comment(d protoreflect.Descriptor) string {
	file := d.ParentFile()
	if file == nil { // of a file that was imported, and is not there
		return ""
	}
	return strings.TrimSpace(file.SourceLocations().ByDescriptor(d).LeadingComments)
}
