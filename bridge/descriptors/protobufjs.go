package descriptors

import (
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// mendFiles makes what protodesc takes of the files that protobufjs writes, and with it the
// reflection of Node's (@grpc/reflection): these import nothing, though what they refer to is
// in others that come along, and the entries of a map are called as its field is. What is no
// file is left for others to complain of.
func mendFiles(wires [][]byte) {
	files := make([]*descriptorpb.FileDescriptorProto, len(wires))
	for i, wire := range wires {
		files[i] = &descriptorpb.FileDescriptorProto{}
		if proto.Unmarshal(wire, files[i]) != nil {
			return
		}
	}
	of := map[string]string{} // the files of messages and enums, by their full names
	for _, file := range files {
		addSymbols(of, file, file.GetPackage(), file.GetMessageType(), file.GetEnumType())
	}
	for i, file := range files {
		mended := nameEntries(file.GetMessageType())
		if len(file.GetDependency()) == 0 && importWhatIsUsed(file, of) {
			mended = true
		}
		if !mended {
			continue
		}
		if wire, err := (proto.MarshalOptions{AllowPartial: true}).Marshal(file); err == nil {
			wires[i] = wire
		}
	}
}

// maxScope is how deep the messages in messages are whose names are looked at.
const maxScope = 100

func addSymbols(of map[string]string, file *descriptorpb.FileDescriptorProto, scope string, messages []*descriptorpb.DescriptorProto, enums []*descriptorpb.EnumDescriptorProto) {
	if strings.Count(scope, ".") > maxScope {
		return
	}
	for _, e := range enums {
		of[within(scope, e.GetName())] = file.GetName()
	}
	for _, m := range messages {
		name := within(scope, m.GetName())
		of[name] = file.GetName()
		addSymbols(of, file, name, m.GetNestedType(), m.GetEnumType())
	}
}

func within(scope, name string) string { return strings.TrimPrefix(scope+"."+name, ".") }

// nameEntries names the entries of maps as protobuf has them, and tells whether they had other
// names.
func nameEntries(messages []*descriptorpb.DescriptorProto) (renamed bool) {
	for _, m := range messages {
		if nameEntries(m.GetNestedType()) {
			renamed = true
		}
		entries := map[string]*descriptorpb.DescriptorProto{}
		for _, nested := range m.GetNestedType() {
			if nested.GetOptions().GetMapEntry() {
				entries[nested.GetName()] = nested
			}
		}
		for _, field := range m.GetField() {
			at := strings.LastIndexByte(field.GetTypeName(), '.') + 1
			entry := entries[field.GetTypeName()[at:]]
			if want := entryName(field.GetName()); entry != nil && entry.GetName() != want && field.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REPEATED {
				entry.Name = &want
				field.TypeName = proto.String(field.GetTypeName()[:at] + want)
				renamed = true
			}
		}
	}
	return renamed
}

// entryName is how the entries of a map are called: of a_map, AMapEntry.
func entryName(field string) string {
	var b strings.Builder
	for _, part := range strings.Split(field, "_") {
		for i, c := range part {
			if i == 0 {
				c = unicode.ToUpper(c)
			}
			b.WriteRune(c)
		}
	}
	return b.String() + "Entry"
}

// importWhatIsUsed adds the imports of a file that has none, and tells whether there are any.
func importWhatIsUsed(file *descriptorpb.FileDescriptorProto, of map[string]string) bool {
	imported := map[string]bool{file.GetName(): true}
	use := func(scope, name string) {
		where := find(of, scope, name)
		if where != "" && !imported[where] {
			imported[where] = true
			file.Dependency = append(file.Dependency, where)
		}
	}
	var fields func(scope string, messages []*descriptorpb.DescriptorProto)
	fields = func(scope string, messages []*descriptorpb.DescriptorProto) {
		if strings.Count(scope, ".") > maxScope {
			return
		}
		for _, m := range messages {
			name := within(scope, m.GetName())
			for _, field := range m.GetField() {
				if field.GetTypeName() != "" {
					use(name, field.GetTypeName())
				}
			}
			fields(name, m.GetNestedType())
		}
	}
	fields(file.GetPackage(), file.GetMessageType())
	for _, service := range file.GetService() {
		for _, method := range service.GetMethod() {
			use(file.GetPackage(), method.GetInputType())
			use(file.GetPackage(), method.GetOutputType())
		}
	}
	return len(imported) > 1
}

// find returns the file of a name, which is in a scope unless it begins with a dot: the
// innermost that has it.
func find(of map[string]string, scope, name string) string {
	if full, ok := strings.CutPrefix(name, "."); ok {
		return of[full]
	}
	for {
		if where := of[within(scope, name)]; where != "" || scope == "" {
			return where
		}
		scope = scope[:max(strings.LastIndexByte(scope, '.'), 0)]
	}
}
