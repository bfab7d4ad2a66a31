// Protoc-gen-openapi writes the OpenAPI 3.1 description of the HTTP face. The
// routes are written by hand, in a document of YAML that says what no annotation
// can: server-sent events beside JSON, headers, and what an error looks like. A
// schema that the document names and does not hold is a message or an enum of the
// proto, and comes from there, in proto3 JSON, with the comments. Of one that it
// does hold, it replaces and adds members.
//
// It stands in for protoc-gen-openapiv2, which ends at Swagger 2.0, and
// grpc-gateway's protoc-gen-openapiv3 (2.33: alpha), which takes routes from
// annotations alone and has one kind of answer for each.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	var flags flag.FlagSet
	document := flags.String("document", "", "the YAML file with the routes")
	protogen.Options{ParamFunc: flags.Set}.Run(func(plugin *protogen.Plugin) error {
		plugin.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)
		written, err := os.ReadFile(*document)
		if err != nil {
			return err
		}
		description, err := describe(written, plugin.Files)
		if err != nil {
			return fmt.Errorf("%s: %w", *document, err)
		}
		for _, f := range plugin.Files {
			if f.Generate {
				_, err = plugin.NewGeneratedFile(f.GeneratedFilenamePrefix+".openapi.json", "").Write(description)
			}
		}
		return err
	})
}

// object is one of JSON's.
type object = map[string]any

// describe fills in the schemas that a document lacks.
func describe(written []byte, files []*protogen.File) ([]byte, error) {
	var document struct {
		All        object `yaml:",inline"`
		Components struct {
			Schemas map[string]object
			All     object `yaml:",inline"`
		}
	}
	if err := yaml.Unmarshal(written, &document); err != nil {
		return nil, err
	}
	components := document.Components
	p := newProto(files)
	for names := references(document.All, components.All, components.Schemas); len(names) > 0; {
		name := names[0]
		names = names[1:]
		if p.described[name] {
			continue
		}
		p.described[name] = true
		schema := p.schema(name)
		if schema == nil && components.Schemas[name] == nil {
			return nil, fmt.Errorf("there is no schema %s, and no message of this name", name)
		}
		names = append(names, references(schema)...)
		components.Schemas[name] = merge(schema, components.Schemas[name])
	}
	components.All["schemas"] = components.Schemas
	document.All["components"] = components.All
	out, err := json.MarshalIndent(document.All, "", "  ")
	return append(out, '\n'), err
}

const prefix = "#/components/schemas/"

// references lists the schemas that values name.
func references(values ...any) []string {
	var names []string
	for _, v := range values {
		switch v := v.(type) {
		case map[string]object:
			for _, schema := range v {
				names = append(names, references(schema)...)
			}
		case object:
			if to, ok := v["$ref"].(string); ok && strings.HasPrefix(to, prefix) {
				names = append(names, strings.TrimPrefix(to, prefix))
			}
			names = append(names, references(slices.Collect(maps.Values(v))...)...)
		case []any:
			names = append(names, references(v...)...)
		}
	}
	return names
}

// merge puts what is written by hand over what is generated: a member takes the
// place of another, and so does a property.
func merge(generated, written object) object {
	if generated == nil {
		return written
	}
	for key, value := range written {
		properties, ok := generated[key].(object)
		if ok && key == "properties" {
			maps.Copy(properties, value.(object))
		} else {
			generated[key] = value
		}
	}
	return generated
}

// proto is what the proto files declare, by its name without the package.
type proto struct {
	messages  map[string]*protogen.Message
	enums     map[string]*protogen.Enum
	requested map[string]bool // messages that requests hold
	described map[string]bool
}

func newProto(files []*protogen.File) *proto {
	p := &proto{map[string]*protogen.Message{}, map[string]*protogen.Enum{}, map[string]bool{}, map[string]bool{}}
	for _, f := range files {
		for _, e := range f.Enums {
			p.enums[string(e.Desc.Name())] = e
		}
		for _, m := range f.Messages {
			p.messages[string(m.Desc.Name())] = m
			for _, e := range m.Enums {
				p.enums[string(e.Desc.Name())] = e
			}
		}
	}
	for _, f := range files {
		for _, s := range f.Services {
			for _, m := range s.Methods {
				p.request(m.Input)
			}
		}
	}
	return p
}

// request notes that requests hold a message, and those in it.
func (p *proto) request(m *protogen.Message) {
	name := string(m.Desc.Name())
	if p.requested[name] {
		return
	}
	p.requested[name] = true
	for _, f := range m.Fields {
		if f.Message != nil {
			p.request(f.Message)
		}
	}
}

// schema returns that of a message or an enum, or nil if there is none.
func (p *proto) schema(name string) object {
	if m := p.messages[name]; m != nil {
		return p.message(m)
	}
	e := p.enums[name]
	if e == nil {
		return nil
	}
	var names []string
	words := prose(e.Comments.Leading)
	for _, v := range e.Values[1:] { // the first is that of a field that is absent
		names = append(names, string(v.Desc.Name()))
		words += fmt.Sprintf("\n- %s: %s", v.Desc.Name(), prose(v.Comments.Leading))
	}
	return object{"type": "string", "enum": names, "description": words}
}

// message returns the schema of a message. Those of requests have a field's two
// names, as the JSON of requests may, and no others; those of answers may get more
// fields one day.
func (p *proto) message(m *protogen.Message) object {
	properties := object{}
	var oneOf []object
	none := object{} // of the oneof's fields: all false
	request := p.requested[string(m.Desc.Name())]
	for _, f := range m.Fields {
		names := []string{f.Desc.JSONName()}
		if request && f.Desc.TextName() != names[0] {
			names = append(names, f.Desc.TextName())
		}
		for i, name := range names {
			property := p.field(f)
			property["description"] = prose(f.Comments.Leading)
			if i > 0 {
				property["description"] = "The same as " + names[0] + "."
			}
			properties[name] = property
			if f.Oneof != nil && !f.Oneof.Desc.IsSynthetic() {
				oneOf = append(oneOf, object{"required": []string{name}})
				none[name] = false
			}
		}
	}
	schema := object{"type": "object", "properties": properties, "description": prose(m.Comments.Leading)}
	if oneOf != nil {
		schema["oneOf"] = append(oneOf, object{"properties": none})
	}
	if request {
		schema["additionalProperties"] = false
	}
	return schema
}

func (p *proto) field(f *protogen.Field) object {
	switch {
	case f.Desc.IsMap():
		return object{"type": "object", "additionalProperties": p.value(f.Message.Fields[1])}
	case f.Desc.IsList():
		return object{"type": "array", "items": p.value(f)}
	}
	return p.value(f)
}

// value returns the schema of one value of a field, as proto3 JSON has it:
// https://protobuf.dev/programming-guides/json/.
func (p *proto) value(f *protogen.Field) object {
	switch f.Desc.Kind() {
	case protoreflect.MessageKind:
		if schema := wellKnown(f.Message.Desc.FullName()); schema != nil {
			return schema
		}
		return object{"$ref": prefix + string(f.Message.Desc.Name())}
	case protoreflect.EnumKind:
		return object{"$ref": prefix + string(f.Enum.Desc.Name())}
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.StringKind:
		return object{"type": "string"}
	case protoreflect.BytesKind:
		return object{"type": "string", "contentEncoding": "base64"}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return object{"type": "number", "format": "double"}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return object{"type": []string{"integer", "string"}, "format": "int64"}
	}
	panic(fmt.Sprintf("%s: %s has no schema here", f.Desc.FullName(), f.Desc.Kind()))
}

func wellKnown(name protoreflect.FullName) object {
	switch name {
	case "google.protobuf.Duration":
		return object{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]{1,9})?s$`}
	case "google.protobuf.Timestamp":
		return object{"type": "string", "format": "date-time"}
	case "google.protobuf.Struct":
		return object{"type": "object", "additionalProperties": true}
	case "google.protobuf.Value":
		return object{}
	case "google.protobuf.Any":
		return object{
			"type":                 "object",
			"properties":           object{"@type": object{"type": "string"}},
			"required":             []string{"@type"},
			"additionalProperties": true,
		}
	}
	return nil
}

// prose is a comment without its line breaks, but for those between paragraphs.
func prose(c protogen.Comments) string {
	paragraphs := strings.Split(string(c), "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = strings.Join(strings.Fields(p), " ")
	}
	return strings.TrimSpace(strings.Join(paragraphs, "\n\n"))
}
