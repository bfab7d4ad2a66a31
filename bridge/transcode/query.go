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

// setField sets a field by its path to what the path of a request has: a list's values with
// commas between them, as the gateway has it. Its code knows only enums that are linked in.
func setField(m protoreflect.Message, path, value string) error {
	names := strings.Split(path, ".")
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

// mapEntry is how the gateway has a query parameter name an entry of a map: field[key].
var mapEntry = regexp.MustCompile(`^(.*)\[(.*)\]$`)

// setQuery sets the fields that query parameters name.
func setQuery(m protoreflect.Message, query url.Values, not *utilities.DoubleArray) error {
	rest := url.Values{}
	for key, values := range query {
		field, entry := key, mapEntry.FindStringSubmatch(key)
		if entry != nil {
			field = entry[1]
		}
		names := strings.Split(field, ".")
		fd := fieldOf(m.Descriptor(), names)
		if isMask(fd) {
			values = maskPaths(fd, values)
		}
		enums := fd != nil && entry == nil && fd.Enum() != nil
		ofMap := fd != nil && entry != nil && fd.IsMap() && fd.MapValue().Enum() != nil
		if !enums && !ofMap {
			rest[key] = values
			continue
		}
		names = fieldNames(m.Descriptor(), names) // as the filter has them
		if not.HasCommonPrefix(names) {
			continue
		}
		var err error
		if ofMap {
			err = setEnumOfMap(m, names, entry[2], values)
		} else {
			err = setEnums(m, names, values)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", failure.Clip(key), err)
		}
	}
	return runtime.PopulateQueryParameters(m.Interface(), rest, not)
}

// descend returns the message at the end of a path of names but for the last one, which
// is that of a field there.
func descend(m protoreflect.Message, path []string) (protoreflect.Message, protoreflect.FieldDescriptor) {
	for _, name := range path[:len(path)-1] {
		m = m.Mutable(fieldOf(m.Descriptor(), []string{name})).Message()
	}
	return m, fieldOf(m.Descriptor(), path[len(path)-1:])
}

var (
	errSeveral = errors.New("there is more than one value")
	errSet     = errors.New("it is set already")
)

// setEnums sets a field that is an enum, or a list of them, of one value or several.
func setEnums(m protoreflect.Message, path []string, values []string) error {
	m, fd := descend(m, path)
	if !fd.IsList() && len(values) != 1 {
		return errSeveral
	}
	if m.Has(fd) || fd.ContainingOneof() != nil && m.WhichOneof(fd.ContainingOneof()) != nil {
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
	m, fd := descend(m, path)
	if len(values) != 1 {
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
