package wirejson

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// table is what is to be known of a message type.
type table struct {
	md      protoreflect.MessageDescriptor
	special special // how its JSON is no object of its fields
	low     []*field
	high    map[protoreflect.FieldNumber]*field // those with numbers that low has no room for
}

// maxLow is the highest field number of those that are found by index.
const maxLow = 255

// maxBits is how many fields and oneofs a message may have that is not unusual.
const maxBits = 256

// field is one of a message type, or the key or the value of a map.
type field struct {
	number   protoreflect.FieldNumber
	name     []byte // as it stands in the object, with its colon
	kind     protoreflect.Kind
	wireType protowire.Type
	bit      uint   // which of those is set that have come; of a oneof's fields, one
	mask     uint64 // of the bits of a number that count
	repeated bool   // a list or a map
	implicit bool   // zero is the same as absent
	null     bool   // of google.protobuf.NullValue
	message  *table
	enum     map[protoreflect.EnumNumber][]byte // the names as they stand in JSON
	low      [][]byte                           // of enum, those with the lowest numbers
	key      *field                             // of a map
	value    *field                             // of a map
}

// table returns the table of a message type.
func (t *Types) table(md protoreflect.MessageDescriptor) *table {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.find(md)
	// Not each by the one that holds it: types may hold one another a million deep.
	for len(t.found) > 0 {
		next := t.found[len(t.found)-1]
		t.found = t.found[:len(t.found)-1]
		t.compile(next)
	}
	return c
}

// find returns the table of a message type, which may have to be compiled yet. The caller
// holds mu.
func (t *Types) find(md protoreflect.MessageDescriptor) *table {
	c := t.compiled[md]
	if c == nil {
		c = &table{md: md}
		t.compiled[md] = c
		t.found = append(t.found, c)
	}
	return c
}

// compile fills a table in. The caller holds mu.
func (t *Types) compile(c *table) {
	md := c.md
	fields, oneofs := md.Fields(), md.Oneofs()
	if md.IsPlaceholder() || fields.Len()+oneofs.Len() > maxBits || isMessageSet(md) || isAmbiguous(md) {
		c.special = unusual
		return
	}
	c.high = map[protoreflect.FieldNumber]*field{}
	for i := range fields.Len() {
		fd := fields.Get(i)
		f := t.compileField(fd)
		f.bit = uint(i)
		if o := fd.ContainingOneof(); o != nil {
			f.bit = uint(fields.Len() + o.Index())
		}
		if f.number > maxLow {
			c.high[f.number] = f
			continue
		}
		for len(c.low) <= int(f.number) {
			c.low = append(c.low, nil)
		}
		c.low[f.number] = f
	}
	c.special = specialOf(md)
}

// isAmbiguous tells of a message type that two of its fields have one name in JSON, or that
// nobody knows whether one is a message or an enum, as its type is in a file that is missing.
func isAmbiguous(md protoreflect.MessageDescriptor) bool {
	names := map[string]bool{}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if names[fd.JSONName()] || fd.Kind() == 0 {
			return true
		}
		names[fd.JSONName()] = true
	}
	return false
}

func (t *Types) compileField(fd protoreflect.FieldDescriptor) *field {
	name, _ := json.Marshal(fd.JSONName()) // a text
	name = bytes.ReplaceAll(name, []byte("\u0085"), []byte(`\u0085`))
	f := &field{
		number:   fd.Number(),
		name:     append(name, ':'),
		kind:     fd.Kind(),
		wireType: wireType(fd.Kind()),
		mask:     math.MaxUint64,
		repeated: fd.IsList() || fd.IsMap(),
		implicit: !fd.HasPresence() && !fd.IsList() && !fd.IsMap(),
	}
	switch f.kind {
	case protoreflect.Int32Kind, protoreflect.Uint32Kind, protoreflect.Sint32Kind, protoreflect.EnumKind:
		f.mask = math.MaxUint32
	}
	switch {
	case fd.IsMap():
		f.key, f.value = t.compileField(fd.MapKey()), t.compileField(fd.MapValue())
		f.wireType = protowire.BytesType // also of one that an edition has as delimited
	case fd.Message() != nil:
		f.message = t.find(fd.Message())
	case fd.Enum() != nil:
		f.compileEnum(fd.Enum())
	}
	return f
}

func (f *field) compileEnum(ed protoreflect.EnumDescriptor) {
	f.null = ed.FullName() == "google.protobuf.NullValue"
	f.enum = map[protoreflect.EnumNumber][]byte{}
	for i := range ed.Values().Len() {
		v := ed.Values().Get(i)
		if f.enum[v.Number()] == nil { // of aliases, the first
			f.enum[v.Number()] = []byte(`"` + string(v.Name()) + `"`)
		}
	}
	for number := protoreflect.EnumNumber(0); number < 64 && f.enum[number] != nil; number++ {
		f.low = append(f.low, f.enum[number])
	}
}

// field returns the field of a number, or nil if there is none.
func (t *table) field(number protoreflect.FieldNumber) *field {
	if uint(number) < uint(len(t.low)) {
		return t.low[number]
	}
	if number <= maxLow {
		return nil
	}
	return t.high[number]
}

func wireType(kind protoreflect.Kind) protowire.Type {
	switch kind {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	}
	return protowire.VarintType
}

// special is a form of JSON that is no object of the message's fields.
type special uint8

const (
	none special = iota
	unusual
	timestamp
	duration
	wrapper
	structure
	listValue
	dynamicValue // google.protobuf.Value
	anyMessage
)

var specials = map[protoreflect.Name]special{
	"Timestamp": timestamp, "Duration": duration, "Struct": structure, "ListValue": listValue, "Value": dynamicValue, "Any": anyMessage,
	"BoolValue": wrapper, "Int32Value": wrapper, "Int64Value": wrapper, "UInt32Value": wrapper, "UInt64Value": wrapper,
	"FloatValue": wrapper, "DoubleValue": wrapper, "StringValue": wrapper, "BytesValue": wrapper,
	"FieldMask": unusual,
}

// specialOf returns the form of a message type. One that has the name of a well-known type,
// and other fields, is unusual.
func specialOf(md protoreflect.MessageDescriptor) special {
	if !hasOwnForm(md) {
		return none
	}
	known, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil || !slices.Equal(shape(md), shape(known.Descriptor())) {
		return unusual
	}
	return specials[md.Name()]
}

// hasOwnForm tells of a message type that its JSON is no object of its fields.
func hasOwnForm(md protoreflect.MessageDescriptor) bool {
	return specials[md.Name()] != none && md.FullName().Parent() == "google.protobuf"
}

// shape is what the wire form of a message type depends on.
func shape(md protoreflect.MessageDescriptor) []fieldShape {
	var all []fieldShape
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		all = append(all, fieldShape{fd.FullName(), fd.Number(), fd.Kind(), fd.Cardinality()})
	}
	return all
}

type fieldShape struct {
	name        protoreflect.FullName
	number      protoreflect.FieldNumber
	kind        protoreflect.Kind
	cardinality protoreflect.Cardinality
}

func isMessageSet(md protoreflect.MessageDescriptor) bool {
	options, ok := md.Options().(interface{ GetMessageSetWireFormat() bool })
	return ok && options.GetMessageSetWireFormat()
}
