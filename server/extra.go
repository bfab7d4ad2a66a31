package server

import (
	"strings"

	"google.golang.org/protobuf/types/known/structpb"
)

// extras puts together what an upstream says of an answer in one extra after the
// other: objects are merged, and lists stand one behind the other, but that elements
// of a list with the same type and index are one, as of reasoning_details, which come
// in pieces. What is null says nothing; of other values the last one holds. The zero
// value is ready to use.
//
// It takes time and memory in proportion to what it is given: texts and lists grow in
// place.
type extras struct {
	fields map[string]*extraValue
}

// extraValue is a value as far as it is put together.
type extraValue struct {
	last   *structpb.Value // a scalar, or null
	text   *strings.Builder
	fields map[string]*extraValue
	list   []*extraValue
	isList bool
	pieces map[piece]*extraValue // those of list that others may belong to
}

// piece names an element of a list that comes in pieces.
type piece struct {
	kind  string
	index float64
}

// joined are the members of such an element that are texts in pieces (OpenRouter's
// reasoning_details: reasoning.text, reasoning.summary, reasoning.encrypted;
// OpenRouterTeam/ai-sdk-provider src/chat/index.ts joins text so). Others, like a
// signature, come whole.
var joined = map[string]bool{"text": true, "summary": true, "data": true}

// add adds the next extra. It keeps the values, which must not change.
func (e *extras) add(s *structpb.Struct) {
	if len(s.GetFields()) > 0 {
		e.fields = merge(e.fields, s, false)
	}
}

// merge adds an object's members to those that are there. The texts of an element in
// pieces are joined.
func merge(fields map[string]*extraValue, s *structpb.Struct, isPiece bool) map[string]*extraValue {
	if fields == nil {
		fields = make(map[string]*extraValue, len(s.GetFields()))
	}
	for name, v := range s.GetFields() {
		have := fields[name]
		if have == nil {
			have = &extraValue{}
			fields[name] = have
		}
		have.add(v, isPiece && joined[name])
	}
	return fields
}

// add adds a value to one that may be there.
func (e *extraValue) add(v *structpb.Value, isText bool) {
	switch kind := v.GetKind().(type) {
	case *structpb.Value_StructValue:
		*e = extraValue{fields: merge(e.fields, kind.StructValue, false)}
	case *structpb.Value_ListValue:
		if !e.isList {
			*e = extraValue{isList: true}
		}
		for _, element := range kind.ListValue.GetValues() {
			e.addElement(element)
		}
	case *structpb.Value_StringValue:
		if !isText {
			*e = extraValue{last: v}
			return
		}
		if e.text == nil {
			*e = extraValue{text: &strings.Builder{}}
		}
		e.text.WriteString(kind.StringValue)
	default:
		_, null := v.GetKind().(*structpb.Value_NullValue)
		if !null || e.isEmpty() {
			*e = extraValue{last: v}
		}
	}
}

func (e *extraValue) isEmpty() bool {
	return e.last == nil && e.text == nil && e.fields == nil && !e.isList
}

// addElement adds an element to a list, or to the one in it that it is a piece of.
func (e *extraValue) addElement(v *structpb.Value) {
	fields := v.GetStructValue().GetFields()
	index, hasIndex := fields["index"].GetKind().(*structpb.Value_NumberValue)
	if !hasIndex {
		element := &extraValue{}
		element.add(v, false)
		e.list = append(e.list, element)
		return
	}
	name := piece{fields["type"].GetStringValue(), index.NumberValue}
	element := e.pieces[name]
	if element == nil {
		element = &extraValue{}
		e.list = append(e.list, element)
		if e.pieces == nil {
			e.pieces = map[piece]*extraValue{}
		}
		e.pieces[name] = element
	}
	element.fields = merge(element.fields, v.GetStructValue(), true)
}

// result returns all of it, or nil when there was nothing.
func (e *extras) result() *structpb.Struct {
	if e.fields == nil {
		return nil
	}
	return object(e.fields)
}

func object(fields map[string]*extraValue) *structpb.Struct {
	s := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(fields))}
	for name, v := range fields {
		s.Fields[name] = v.result()
	}
	return s
}

func (e *extraValue) result() *structpb.Value {
	switch {
	case e.isList:
		values := make([]*structpb.Value, len(e.list))
		for i, element := range e.list {
			values[i] = element.result()
		}
		return structpb.NewListValue(&structpb.ListValue{Values: values})
	case e.fields != nil:
		return structpb.NewStructValue(object(e.fields))
	case e.text != nil:
		return structpb.NewStringValue(e.text.String())
	}
	return e.last
}
