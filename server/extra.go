package server

import (
	"strings"

	"google.golang.org/protobuf/types/known/structpb"
)

// extras puts together what an upstream says of an answer in one extra after the
// other: objects are merged, and lists stand one behind the other, but that elements
// of a list with the same type and index are one, as of reasoning_details, which come
// in pieces, and so does speech. What is null says nothing; of other values the last one
// holds. The zero value is ready to use.
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
	pieces map[float64]*extraValue // under each index, the element that the next piece may belong to
}

// joinedTexts are the members of such an element that are texts in pieces (OpenRouter's
// reasoning_details: reasoning.text, reasoning.summary, reasoning.encrypted;
// OpenRouterTeam/ai-sdk-provider src/chat/index.ts joins text so; LiteLLM's
// thinking_blocks: thinking). Others, like a signature, come whole.
var joinedTexts = map[string]bool{"text": true, "summary": true, "data": true, "thinking": true}

// audioTexts are those of speech (openai/openai-node#1991).
var audioTexts = map[string]bool{"data": true, "transcript": true}

// thinkingBlocks is a list whose elements have no index: a delta has the next piece of
// its last element (BerriAI/litellm#29428).
const thinkingBlocks = "thinking_blocks"

// add adds the next extra. It keeps the values, which must not change.
func (e *extras) add(s *structpb.Struct) {
	if len(s.GetFields()) > 0 {
		e.fields = merge(e.fields, s, nil)
	}
}

// merge adds an object's members to those that are there. Those texts that come in
// pieces are joined.
func merge(fields map[string]*extraValue, s *structpb.Struct, inPieces map[string]bool) map[string]*extraValue {
	if fields == nil {
		fields = make(map[string]*extraValue, len(s.GetFields()))
	}
	for name, v := range s.GetFields() {
		have := fields[name]
		if have == nil {
			have = &extraValue{}
			fields[name] = have
		}
		have.add(name, v, inPieces)
	}
	return fields
}

// add adds a value to one of the same name that may be there.
func (e *extraValue) add(name string, v *structpb.Value, inPieces map[string]bool) {
	switch kind := v.GetKind().(type) {
	case *structpb.Value_StructValue:
		var within map[string]bool
		if name == "audio" {
			within = audioTexts
		}
		*e = extraValue{fields: merge(e.fields, kind.StructValue, within)}
	case *structpb.Value_ListValue:
		if !e.isList {
			*e = extraValue{isList: true}
		}
		for _, element := range kind.ListValue.GetValues() {
			e.addElement(name, element)
		}
	case *structpb.Value_StringValue:
		switch {
		case inPieces[name]:
			if e.text == nil {
				*e = extraValue{text: &strings.Builder{}}
			}
			e.text.WriteString(kind.StringValue)
		case inPieces == nil || kind.StringValue != "" || e.isEmpty(): // an empty one has nothing of a piece
			*e = extraValue{last: v}
		}
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
func (e *extraValue) addElement(list string, v *structpb.Value) {
	fields := v.GetStructValue().GetFields()
	_, hasIndex := fields["index"].GetKind().(*structpb.Value_NumberValue)
	isPiece := hasIndex || list == thinkingBlocks && fields != nil
	index := fields["index"].GetNumberValue()
	element := e.pieces[index]
	if !isPiece || element == nil || !element.continues(fields) {
		element = &extraValue{}
		e.list = append(e.list, element)
	}
	if !isPiece {
		element.add("", v, nil)
		return
	}
	if e.pieces == nil {
		e.pieces = map[float64]*extraValue{}
	}
	e.pieces[index] = element
	element.fields = merge(element.fields, v.GetStructValue(), joinedTexts)
}

// continues tells whether an element goes on with what may be the next piece of it. The
// index does not say: OpenRouter has 0 in each piece of a stream, so that it is another
// element when the type changes (OpenRouterTeam/ai-sdk-provider#520), the id does, or
// more text comes behind a signature, which is an element's last. What a provider wants
// back encrypted under no id is whole, where it has no index.
func (e *extraValue) continues(fields map[string]*structpb.Value) bool {
	if e.stringAt("type") != fields["type"].GetStringValue() {
		return false
	}
	if id, other := e.stringAt("id"), fields["id"].GetStringValue(); id != "" && other != "" && id != other {
		return false
	}
	if _, hasIndex := fields["index"]; !hasIndex && fields["type"].GetStringValue() == "redacted_thinking" {
		return false
	}
	return e.stringAt("signature") == "" || fields["text"].GetStringValue()+fields["thinking"].GetStringValue() == ""
}

// stringAt returns a member that is a string, or "".
func (e *extraValue) stringAt(name string) string {
	if member := e.fields[name]; member != nil {
		return member.last.GetStringValue()
	}
	return ""
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
