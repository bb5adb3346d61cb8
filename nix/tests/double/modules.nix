# The module system: options, imports, mkIf, mkMerge and priorities.
{ lib }:
let
  defaultPriority = 100;
  kind = value: if builtins.isAttrs value then value._type or null else null;

  # What one definition says once its properties are resolved: a list of { priority, value }.
  resolve =
    def:
    {
      "if" = if def.condition then resolve def.content else [ ];
      merge = builtins.concatMap resolve def.contents;
      override = map (one: one // { inherit (def) priority; }) (resolve def.content);
    }
    .${toString (kind def)} or [
      {
        priority = defaultPriority;
        value = def;
      }
    ];

  normalize =
    args: module:
    let
      loaded = if builtins.isPath module then import module else module;
      plain = if builtins.isFunction loaded then loaded args else loaded;
    in
    if plain ? options || plain ? config || plain ? imports then
      {
        imports = plain.imports or [ ];
        options = plain.options or { };
        config = plain.config or { };
      }
    else
      {
        imports = [ ];
        options = { };
        config = plain;
      };

  withImports =
    args: module:
    let
      normal = normalize args module;
    in
    [ normal ] ++ builtins.concatMap (withImports args) normal.imports;

  isOption = value: kind value == "option";

  # Two trees of options; the same option in both is a mistake.
  joinOptions =
    place: left: right:
    left
    // builtins.mapAttrs (
      name: tree:
      if !left ? ${name} then
        tree
      else if isOption tree || isOption left.${name} then
        throw "The option `${lib.showOption (place ++ [ name ])}' is already declared."
      else
        joinOptions (place ++ [ name ]) left.${name} tree
    ) right;

  # The values of a tree of options, given what the modules say about it.
  values =
    place: options: defs:
    let
      sets = builtins.concatMap lib.pushDownProperties defs;
      at = name: builtins.concatMap (set: lib.optional (set ? ${name}) set.${name}) sets;
      unknown = lib.subtractLists (builtins.attrNames options) (lib.namesOf sets);
      value =
        name: option:
        let
          here = place ++ [ name ];
          given = at name;
          all = given ++ lib.optional (option ? default) (lib.mkOptionDefault option.default);
        in
        if !isOption option then
          values here option given
        else if option.readOnly or false && lib.dischargeProperties given != [ ] then
          throw "The option `${lib.showOption here}' is read-only, but it's set multiple times."
        else if lib.dischargeProperties all == [ ] then
          throw "The option `${lib.showOption here}' was accessed but has no value defined."
        else
          lib.mergeDefinitions here option.type all;
    in
    if unknown == [ ] then
      builtins.mapAttrs value options
    else
      let
        name = builtins.head unknown;
      in
      throw (
        "The option `${lib.showOption (place ++ [ name ])}' does not exist. Definition values:"
        + lib.showDefs (lib.dischargeProperties (at name))
      );
in
{
  mkOption = option: option // { _type = "option"; };
  mkEnableOption =
    what:
    lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = "Whether to enable ${what}.";
    };
  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit content priority;
  };
  mkForce = lib.mkOverride 50;
  mkDefault = lib.mkOverride 1000;
  mkOptionDefault = lib.mkOverride 1500;

  showOption = builtins.concatStringsSep ".";
  showDefs = lib.concatMapStringsSep "" (value: "\n- ${builtins.toJSON value}");
  namesOf = sets: lib.unique (builtins.concatMap builtins.attrNames sets);

  # The values of the definitions that hold, of the strongest priority only.
  dischargeProperties =
    defs:
    let
      all = builtins.concatMap resolve defs;
      strongest = builtins.foldl' (
        least: one: if one.priority < least then one.priority else least
      ) 10000 all;
    in
    map (one: one.value) (builtins.filter (one: one.priority == strongest) all);

  # The sets that a definition is made of, with its properties moved to what they contain. Looks at no condition: which
  # names there are must not depend on values.
  pushDownProperties =
    def:
    {
      "if" = map (builtins.mapAttrs (_: lib.mkIf def.condition)) (lib.pushDownProperties def.content);
      merge = builtins.concatMap lib.pushDownProperties def.contents;
      override = map (builtins.mapAttrs (_: lib.mkOverride def.priority)) (
        lib.pushDownProperties def.content
      );
    }
    .${toString (kind def)} or [ def ];

  mergeDefinitions =
    place: type: defs:
    let
      strongest = lib.dischargeProperties defs;
      wrong = builtins.filter (value: !type.check value) strongest;
    in
    if wrong == [ ] then
      type.merge place strongest
    else
      throw (
        "A definition for option `${lib.showOption place}' is not of type `${type.description}'. Definition values:"
        + lib.showDefs wrong
      );

  evalModules = lib.evalModulesAt [ ];
  evalModulesAt =
    place:
    {
      modules,
      specialArgs ? { },
    }:
    let
      all = builtins.concatMap (withImports ({ inherit config lib; } // specialArgs)) modules;
      options = builtins.foldl' (joinOptions place) { } (map (module: module.options) all);
      config = values place options (map (module: module.config) all);
    in
    {
      inherit config options;
    };
}
