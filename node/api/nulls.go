package api

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// noNulls makes every nil list in an answer an empty one, so that programs need
// not know two ways to say "none".
func noNulls(_ huma.Context, _ string, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	return withoutNulls(reflect.ValueOf(v)).Interface(), nil
}

// withoutNulls gives v with empty slices for nil ones. It changes nothing that v
// refers to: a Node may hand out what it keeps.
func withoutNulls(v reflect.Value) reflect.Value {
	switch {
	case !mayHaveNulls(v.Type()):
		return v
	case v.Kind() == reflect.Slice:
		out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		if mayHaveNulls(v.Type().Elem()) {
			for i := range v.Len() {
				out.Index(i).Set(withoutNulls(v.Index(i)))
			}
			return out
		}
		reflect.Copy(out, v)
		return out
	default: // a struct
		out := reflect.New(v.Type()).Elem()
		out.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out.Field(i).Set(withoutNulls(v.Field(i)))
			}
		}
		return out
	}
}

// mayHaveNulls tells whether a value of type t can hold a nil slice that is
// served as null. Bytes are text in JSON.
func mayHaveNulls(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice:
		return t.Elem().Kind() != reflect.Uint8
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && mayHaveNulls(f.Type) {
				return true
			}
		}
	}
	return false
}
