# Property lists as nixpkgs' lib.generators.toPlist writes them.
{ lib }:
{
  escape,
}:
let
  text =
    assert escape;
    builtins.replaceStrings
      [ "\"" "'" "<" ">" "&" ]
      [ "&quot;" "&apos;" "&lt;" "&gt;" "&amp;" ];
  lines = lib.concatMapStringsSep "\n";
  element =
    indent: value:
    let
      inner = "${indent}\t";
      block = tag: body: "${indent}<${tag}>\n${body}\n${indent}</${tag}>";
    in
    {
      bool = "${indent}<${if value then "true" else "false"}/>";
      int = "${indent}<integer>${toString value}</integer>";
      string = "${indent}<string>${text value}</string>";
      list = block "array" (lines (element inner) value);
      set = block "dict" (
        lines (name: "${inner}<key>${text name}</key>\n${element inner value.${name}}") (
          builtins.attrNames value
        )
      );
    }
    .${builtins.typeOf value};
in
value: ''
  <?xml version="1.0" encoding="UTF-8"?>
  <!DOCTYPE plist PUBLIC "-//Apple Computer//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
  <plist version="1.0">
  ${element "" value}
  </plist>''
