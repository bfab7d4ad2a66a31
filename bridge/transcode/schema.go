package transcode

import (
	"google.golang.org/protobuf/reflect/protoreflect"
)

// schemas are those of a description, to which those of messages are added as they are
// needed.
type schemas struct {
	all   object
	names map[protoreflect.FullName]string
	left  []protoreflect.MessageDescriptor // those that are referred to and not described yet
}

func reference(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// name returns a name for a message or an enum, and whether it is new.
func (s *schemas) name(of protoreflect.FullName) (name string, added bool) {
	if name, ok := s.names[of]; ok {
		return name, false
	}
	name = string(of)
	for s.all[name] != nil { // one of the API's own
		name += "_"
	}
	s.names[of] = name
	return name, true
}

// message returns the schema of a message, as proto3 JSON has it: a reference, unless it is
// a well-known type.
func (s *schemas) message(md protoreflect.MessageDescriptor) object {
	if schema := wellKnown(md); schema != nil {
		return schema
	}
	name, added := s.name(md.FullName())
	if added {
		s.all[name] = object{} // until it is described: not from within those that hold it, which may be a million
		s.left = append(s.left, md)
	}
	return reference(name)
}

// complete describes the messages that are referred to.
func (s *schemas) complete() {
	for len(s.left) > 0 {
		md := s.left[len(s.left)-1]
		s.left = s.left[:len(s.left)-1]
		properties := object{}
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			schema := s.field(fd)
			if words := comment(fd); words != "" {
				schema = object{"description": words, "allOf": []object{schema}}
			}
			properties[fd.JSONName()] = schema
		}
		s.all[s.names[md.FullName()]] = object{"type": "object", "description": comment(md), "properties": properties}
	}
}

// field returns the schema of a field.
func (s *schemas) field(fd protoreflect.FieldDescriptor) object {
	switch {
	case fd.IsMap():
		return object{"type": "object", "additionalProperties": s.value(fd.MapValue())}
	case fd.IsList():
		return object{"type": "array", "items": s.value(fd)}
	}
	return s.value(fd)
}

// value returns the schema of one value of a field:
// https://protobuf.dev/programming-guides/json/.
func (s *schemas) value(fd protoreflect.FieldDescriptor) object {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return s.message(fd.Message())
	case protoreflect.EnumKind:
		return s.enum(fd.Enum())
	}
	return scalar(fd.Kind())
}

func scalar(kind protoreflect.Kind) object {
	switch kind {
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.BytesKind:
		return object{"type": "string", "contentEncoding": "base64"}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return object{"anyOf": []object{{"type": "number"}, {"enum": []string{"NaN", "Infinity", "-Infinity"}}}}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return object{"type": "integer", "format": "uint32", "minimum": 0}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return object{"type": []string{"string", "integer"}, "format": "int64"}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return object{"type": []string{"string", "integer"}, "format": "uint64"}
	}
	return object{"type": "string"}
}

// enum returns the schema of an enum: a name, or the number of a value that has none.
func (s *schemas) enum(ed protoreflect.EnumDescriptor) object {
	if ed.FullName() == "google.protobuf.NullValue" {
		return object{"type": "null"}
	}
	name, added := s.name(ed.FullName())
	if added {
		values := []string{} // of an enum in a file that is missing
		for i := range ed.Values().Len() {
			values = append(values, string(ed.Values().Get(i).Name()))
		}
		s.all[name] = object{"description": comment(ed), "anyOf": []object{{"type": "string", "enum": values}, {"type": "integer", "format": "int32"}}}
	}
	return reference(name)
}

var anySchema = object{"type": "object", "properties": object{"@type": object{"type": "string"}}, "additionalProperties": true}

// wellKnown returns the schema of a message whose JSON has a form of its own, or nil.
func wellKnown(md protoreflect.MessageDescriptor) object {
	if md.FullName().Parent() != "google.protobuf" {
		return nil
	}
	switch md.Name() {
	case "Any":
		return anySchema
	case "Timestamp":
		return object{"type": "string", "format": "date-time"}
	case "Duration":
		return object{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]{1,9})?s$`}
	case "FieldMask":
		return object{"type": "string"}
	case "Struct", "Empty":
		return object{"type": "object"}
	case "ListValue":
		return object{"type": "array"}
	case "Value":
		return object{}
	case "BoolValue", "Int32Value", "Int64Value", "UInt32Value", "UInt64Value", "FloatValue", "DoubleValue", "StringValue", "BytesValue":
		if fd := md.Fields().ByNumber(1); fd != nil {
			return scalar(fd.Kind())
		}
	}
	return nil
}
