package openai

import (
	"encoding/json"

	"google.golang.org/protobuf/types/known/structpb"
)

// extraMembers are the members of a field extra. The zero value, nil, has none and is
// ready to use.
type extraMembers map[string]*structpb.Value

// decode adds those members of an object that a table has for extra.
func (m *extraMembers) decode(object json.RawMessage, table []member) {
	var all map[string]json.RawMessage
	_ = json.Unmarshal(object, &all)
	for _, row := range table {
		if raw := all[row.name]; len(raw) > 0 && row.use&toExtra != 0 {
			m.add(row.name, raw)
		}
	}
}

// add adds a member, unless its value is null or empty.
func (m *extraMembers) add(name string, raw json.RawMessage) {
	value := toValue(raw)
	switch kind := value.GetKind().(type) {
	case nil, *structpb.Value_NullValue:
		return
	case *structpb.Value_StringValue:
		if kind.StringValue == "" {
			return
		}
	case *structpb.Value_ListValue:
		if len(kind.ListValue.Values) == 0 {
			return
		}
	case *structpb.Value_StructValue:
		if len(kind.StructValue.Fields) == 0 {
			return
		}
	}
	if *m == nil {
		*m = extraMembers{}
	}
	(*m)[name] = value
}

// append adds a value to the list that a member is, unless it is null or empty.
func (m *extraMembers) append(name string, raw json.RawMessage) {
	var one extraMembers
	one.add(name, raw)
	if value := one[name]; value != nil {
		m.merge(extraMembers{name: structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{value}})})
	}
}

// merge adds the others. A list is appended to the list that is there.
func (m *extraMembers) merge(others extraMembers) {
	for name, value := range others {
		if *m == nil {
			*m = extraMembers{}
		}
		if list := (*m)[name].GetListValue(); list != nil && value.GetListValue() != nil {
			list.Values = append(list.Values, value.GetListValue().Values...)
			continue
		}
		(*m)[name] = value
	}
}

// toStruct returns the members as callers get them, or nil if there are none.
func (m extraMembers) toStruct() *structpb.Struct {
	if m == nil {
		return nil
	}
	return &structpb.Struct{Fields: m}
}

// maxDepth limits the nesting of an extra. What is nested deeper is a string of JSON.
// A level of JSON takes three of protobuf, of which the decoders of most languages take
// at most 100.
const maxDepth = 24

// toValue returns a JSON value as a message, or nil if it cannot be decoded.
func toValue(raw json.RawMessage) *structpb.Value {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return nil
	}
	value, _ := structpb.NewValue(flatten(v, 0)) // it takes all that encoding/json makes
	return value
}

// flatten puts strings of JSON in the places of what is nested too deep in a decoded
// value, which itself is nested so deep.
func flatten(v any, depth int) any {
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	if depth == maxDepth && (isList || isObject) {
		b, _ := json.Marshal(v)
		return string(b)
	}
	for i := range list {
		list[i] = flatten(list[i], depth+1)
	}
	for name := range object {
		object[name] = flatten(object[name], depth+1)
	}
	return v
}
