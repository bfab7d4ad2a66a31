package transcode

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-sse/sluice/bridge/failure"
)

// setField sets a field by its path to what the path of a request has, in place of what the
// body has of it: a list's values with commas between them, as the gateway has it. Its code
// knows only enums that are linked in.
func setField(m protoreflect.Message, path, value string) error {
	names := strings.Split(path, ".")
	clearField(m, names)
	values := []string{value}
	fd := fieldOf(m.Descriptor(), names)
	if fd != nil && fd.IsList() {
		values = strings.Split(value, ",")
	}
	if fd != nil && fd.Enum() != nil {
		return setEnums(m, names, values)
	}
	for _, value := range values {
		if err := runtime.PopulateFieldFromPath(m.Interface(), path, value); err != nil {
			return err
		}
	}
	return nil
}

// clearField clears the field at the end of a path of names.
func clearField(m protoreflect.Message, path []string) {
	for i, name := range path {
		fd := fieldOf(m.Descriptor(), []string{name})
		switch {
		case !m.Has(fd):
			return
		case i == len(path)-1:
			m.Clear(fd)
		default:
			m = m.Mutable(fd).Message()
		}
	}
}

// mapEntry is how the gateway has a query parameter name an entry of a map: field[key].
var mapEntry = regexp.MustCompile(`^(.*)\[(.*)\]$`)

// setQuery sets the fields that query parameters name.
func setQuery(m protoreflect.Message, query url.Values, not *utilities.DoubleArray) error {
	rest, named := url.Values{}, &named{}
	for parameter, values := range query {
		field, entry := parameter, mapEntry.FindStringSubmatch(parameter)
		if entry != nil {
			field = entry[1]
		}
		names := strings.Split(field, ".")
		fd := fieldOf(m.Descriptor(), names)
		if fd == nil {
			if err := unknown(m.Descriptor(), names); err != nil {
				return err
			}
			continue // of something else, which the gateway leaves alone
		}
		names = fieldNames(m.Descriptor(), names)
		if not.HasCommonPrefix(names) {
			continue
		}
		key, value, ofMap := "", values, entry != nil
		switch {
		case ofMap:
			key = entry[2]
		case fd.IsMap() && len(values) == 2: // which the gateway takes for a key and a value
			key, value, ofMap = values[0], values[1:], true
		}
		err := named.add(m.Descriptor(), names, key, ofMap)
		switch {
		case err != nil:
		case entry == nil && fd.Enum() != nil:
			err = setEnums(m, names, values)
		case ofMap && fd.IsMap() && fd.MapValue().Enum() != nil:
			err = setEnumOfMap(m, names, key, value)
		case isMask(fd):
			rest[parameter] = maskPaths(fd, values)
		default:
			rest[parameter] = values
		}
		if err != nil {
			return fmt.Errorf("%s: %w", failure.Clip(parameter), err)
		}
	}
	return runtime.PopulateQueryParameters(m.Interface(), rest, not)
}

// unknown returns an error for a path that names no field because it goes through one which
// has none: that is a mistake, as it is to the gateway.
func unknown(md protoreflect.MessageDescriptor, path []string) error {
	for i := range path {
		fd := fieldOf(md, path[i:i+1])
		if fd == nil {
			break
		}
		if md = fd.Message(); md == nil || fd.IsList() || fd.IsMap() {
			return fmt.Errorf("%s: %s is not a message", failure.Clip(strings.Join(path, ".")), fd.Name())
		}
	}
	return nil
}

// named are the fields of a message that query parameters name, and those of what they hold.
type named struct {
	whole   bool // by a parameter of its own
	fields  map[string]*named
	oneofs  map[protoreflect.Name]string // which one of each
	entries map[string]bool              // of a map
}

// add adds a field, or an entry of one that is a map. It returns an error if that was named,
// or another one of a oneof: which of the two came first, nobody knows.
func (n *named) add(md protoreflect.MessageDescriptor, path []string, key string, entry bool) error {
	var fd protoreflect.FieldDescriptor
	for _, name := range path {
		fd = fieldOf(md, []string{name})
		if n.whole {
			return errSet
		}
		if n.fields == nil {
			n.fields, n.oneofs = map[string]*named{}, map[protoreflect.Name]string{}
		}
		if oneof := fd.ContainingOneof(); oneof != nil {
			if other, ok := n.oneofs[oneof.Name()]; ok && other != name {
				return errSet
			}
			n.oneofs[oneof.Name()] = name
		}
		if n.fields[name] == nil {
			n.fields[name] = &named{}
		}
		n, md = n.fields[name], fd.Message()
	}
	if entry {
		if fd.IsMap() {
			key = sameKey(fd.MapKey().Kind(), key)
		}
		if n.entries[key] {
			return errSet
		}
		if n.entries == nil {
			n.entries = map[string]bool{}
		}
		n.entries[key] = true
		return nil
	}
	if n.whole || n.fields != nil {
		return errSet
	}
	n.whole = true
	return nil
}

// sameKey returns the one form of a map's key that may be written in several: 1, +1 and 01, or
// true and T.
func sameKey(kind protoreflect.Kind, key string) string {
	switch kind {
	case protoreflect.StringKind:
		return key
	case protoreflect.BoolKind:
		if b, err := strconv.ParseBool(key); err == nil {
			return strconv.FormatBool(b)
		}
	}
	if n, err := strconv.ParseInt(key, 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	if n, err := strconv.ParseUint(key, 10, 64); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return key // which is none
}

// descend returns the message at the end of a path of names but for the last one, which
// is that of a field there. It returns an error if another one of a oneof is set.
func descend(m protoreflect.Message, path []string) (protoreflect.Message, protoreflect.FieldDescriptor, error) {
	for i, name := range path {
		fd := fieldOf(m.Descriptor(), []string{name})
		if oneof := fd.ContainingOneof(); oneof != nil && m.WhichOneof(oneof) != nil && m.WhichOneof(oneof) != fd {
			return nil, nil, errSet
		}
		if i == len(path)-1 {
			return m, fd, nil
		}
		m = m.Mutable(fd).Message()
	}
	return nil, nil, errSet // never: a path has a name
}

var (
	errSeveral = errors.New("there is more than one value")
	errSet     = errors.New("it is set already")
)

// setEnums sets a field that is an enum, or a list of them, of one value or several.
func setEnums(m protoreflect.Message, path []string, values []string) error {
	m, fd, err := descend(m, path)
	switch {
	case err != nil:
		return err
	case !fd.IsList() && len(values) != 1:
		return errSeveral
	case m.Has(fd):
		return errSet
	}
	for _, value := range values {
		number, err := enumNumber(fd.Enum(), value)
		if err != nil {
			return err
		}
		if fd.IsList() {
			m.Mutable(fd).List().Append(protoreflect.ValueOfEnum(number))
			continue
		}
		m.Set(fd, protoreflect.ValueOfEnum(number))
	}
	return nil
}

// setEnumOfMap sets an entry of a map whose values are enums.
func setEnumOfMap(m protoreflect.Message, path []string, key string, values []string) error {
	m, fd, err := descend(m, path)
	switch {
	case err != nil:
		return err
	case len(values) != 1:
		return errSeveral
	}
	number, err := enumNumber(fd.MapValue().Enum(), values[0])
	if err != nil {
		return err
	}
	entry := dynamicpb.NewMessage(fd.Message()) // whose key is as the gateway reads it
	if err := runtime.PopulateFieldFromPath(entry, string(fd.MapKey().Name()), key); err != nil {
		return err
	}
	entries, at := m.Mutable(fd).Map(), entry.Get(fd.MapKey()).MapKey()
	if entries.Has(at) {
		return errSet
	}
	entries.Set(at, protoreflect.ValueOfEnum(number))
	return nil
}

// enumNumber returns the number that a value's name, or the number itself, stands for.
func enumNumber(ed protoreflect.EnumDescriptor, value string) (protoreflect.EnumNumber, error) {
	if v := ed.Values().ByName(protoreflect.Name(value)); v != nil {
		return v.Number(), nil
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no value of %s", failure.Clip(value), ed.FullName())
	}
	return protoreflect.EnumNumber(n), nil
}
