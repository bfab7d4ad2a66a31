package openai

import (
	"encoding/json"

	"google.golang.org/protobuf/types/known/structpb"
)

// members are members of an extra; nil has none.
type members map[string]*structpb.Value

// read adds those that a table passes on.
func (m *members) read(b []byte, table []member) error {
	if !mentions(b, table) {
		return nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for _, row := range table {
		if raw := all[row.name]; len(raw) > 0 && row.use&passed != 0 {
			m.add(row.name, raw)
		}
	}
	return nil
}

// add adds a value, unless there is nothing in it.
func (m *members) add(name string, raw json.RawMessage) {
	value := valueOf(raw)
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
		*m = members{}
	}
	(*m)[name] = value
}

// append adds an element to a list.
func (m *members) append(name string, raw json.RawMessage) {
	list := (*m)[name].GetListValue()
	if list == nil {
		list = &structpb.ListValue{}
	}
	before := len(list.Values)
	var one members
	one.add(name, raw)
	for _, value := range one {
		list.Values = append(list.Values, value)
	}
	if len(list.Values) == before {
		return
	}
	if *m == nil {
		*m = members{}
	}
	(*m)[name] = structpb.NewListValue(list)
}

// merge adds those of others; lists become one.
func (m *members) merge(others members) {
	for name, value := range others {
		if *m == nil {
			*m = members{}
		}
		if list := (*m)[name].GetListValue(); list != nil && value.GetListValue() != nil {
			list.Values = append(list.Values, value.GetListValue().Values...)
			continue
		}
		(*m)[name] = value
	}
}

// message returns them as callers get them, or nil.
func (m members) message() *structpb.Struct {
	if m == nil {
		return nil
	}
	return &structpb.Struct{Fields: m}
}

// maxDepth bounds how deep an extra is: each level of JSON is three of protobuf's,
// and its decoders stop at 100 in most languages. What is deeper is given as the text
// that it is in JSON.
const maxDepth = 24

// valueOf returns a JSON value as a message.
func valueOf(raw json.RawMessage) *structpb.Value {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return nil
	}
	return shallow(v, 0)
}

func shallow(v any, depth int) *structpb.Value {
	switch v := v.(type) {
	case nil:
		return structpb.NewNullValue()
	case bool:
		return structpb.NewBoolValue(v)
	case float64:
		return structpb.NewNumberValue(v)
	case string:
		return structpb.NewStringValue(v)
	}
	if depth == maxDepth {
		b, _ := json.Marshal(v)
		return structpb.NewStringValue(string(b))
	}
	if list, ok := v.([]any); ok {
		values := make([]*structpb.Value, len(list))
		for i := range list {
			values[i] = shallow(list[i], depth+1)
		}
		return structpb.NewListValue(&structpb.ListValue{Values: values})
	}
	object, _ := v.(map[string]any)
	fields := make(map[string]*structpb.Value, len(object))
	for name, value := range object {
		fields[name] = shallow(value, depth+1)
	}
	return structpb.NewStructValue(&structpb.Struct{Fields: fields})
}
