# Finds keys that stand where only a reference to one may stand. Returns places, never values.
{ lib }:
let
  # The forms that src/secret/reference.rs knows.
  forms = [
    "env:[A-Za-z_][A-Za-z0-9_]*"
    "file:(/|~/).+"
    "keychain:[^/]+(/.*)?"
    "cmd:.+"
  ];
  isReference =
    text:
    builtins.isString text
    && builtins.any (form: builtins.match form text != null) forms
    && !(lib.hasPrefix "file:${builtins.storeDir}" text);

  # Names such as `key`, `api_keys`, `apiKey`, `auth_token`, and the headers that carry keys.
  isForSecrets =
    name:
    builtins.any (form: builtins.match form (lib.toLower name) != null) [
      "(.*[_-])?(api)?keys?"
      "(.*[_-])?(secret|password)s?"
      "(.*[_-])?(auth|access|bearer)[_-]?token"
      "(proxy-)?authorization|cookie"
    ];

  within =
    place: value:
    if builtins.isAttrs value then
      lib.concatLists (lib.mapAttrsToList (name: inner: at (place ++ [ name ]) name inner) value)
    else if builtins.isList value then
      lib.concatMap (within place) value
    else
      [ ];

  at =
    place: name: value:
    if value == null then
      [ ]
    else if builtins.isAttrs value || !isForSecrets name then
      within place value
    else if builtins.all isReference (lib.filter (one: one != null) (lib.toList value)) then
      [ ]
    else
      [ (lib.concatStringsSep "." place) ];
in
{
  # The keys of `settings`, as `providers.openai.key`, that hold something else than references.
  misplaced = settings: within [ ] settings;
}
